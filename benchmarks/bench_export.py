"""How closely does an exported model answer as `predict` does, how large and how fast is it, and what does int8 cost?

    python benchmarks/bench_export.py
    python benchmarks/bench_export.py --backbone timm:tf_efficientnet_lite0 --weights efficientnet-lite0-57934424.pth
    python benchmarks/bench_export.py --folder photos/ --types int8
    python benchmarks/bench_export.py --many 2000

Images of Fashion-MNIST, or of a folder, go through a network, the embedded mobilenet_v2 by default, and a probe is
fitted to `penultimate`. The model is exported with weights in float32, float16 and int8. `export` itself asserts that
the file answers as `predict` does, and for int8 it cross-validates both probes on all images. Then photographs,
decoded before, are labelled one by one on one core: by each file with onnxruntime, by `ProbeModel.predict_images`,
and, mobilenet_v2 only, by plain torch with the transforms of torchvision and the same probe. All but int8 must name
the same classes.

With `--many N`, only this is asked: would `predict` be faster by onnxruntime on N photographs? JPEG files and decoded
pixels are labelled by `ProbeModel.predict_images` as it stands, on all cores, and by the float32 file with one and two
threads, image by image and in batches. What is compared are labels and the probability of each.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from bench_fashion_mnist import SOURCE, SPLITS, describe_machine, make_image_set, read_split
from PIL import Image
from sklearn.datasets import load_sample_images
from threadpoolctl import threadpool_limits
from torchvision import transforms

from cnncodes import ImageSet, ProbeModel, export, extract, fit, load_backbone, load_images
from cnncodes.vocabulary import DEFAULT_BACKBONE, EXPORTED_TYPES

THREADS_AND_BATCHES = ((1, 1), (1, 32), (2, 1), (2, 32))  # of the exported file, on many photographs


def make_model(images: ImageSet, options: argparse.Namespace) -> ProbeModel:
    name, images_name = options.backbone.replace(":", "-"), options.folder.name if options.folder else options.images
    path = options.work / f"{name}-{images_name}-{options.image_size}.h5"
    network = {"backbone": options.backbone, "weights": options.weights}
    extract(images, path, layers="penultimate", image_size=options.image_size, precision="fp32", **network)
    return fit(path)


def by_torch(model: ProbeModel) -> Callable[[np.ndarray], str]:
    """Return a function that labels an image by plain torch, float32, with the transforms of the weights."""
    preprocessing = load_backbone().preprocessing.override(model.provenance.preprocessing.image_size)
    prepare = transforms.Compose(
        [
            transforms.Resize(preprocessing.resize),
            transforms.CenterCrop(preprocessing.image_size),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    network = load_backbone().module

    def label(image: np.ndarray) -> str:
        with torch.inference_mode():
            maps = network.features(prepare(Image.fromarray(image))[None])
        return str(model.predict(maps.mean(dim=(2, 3)).numpy())[0])

    return label


def by_file(path: Path, classes: list[str]) -> Callable[[np.ndarray], str]:
    """Return a function that labels an image by an exported file."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), settings)
    return lambda image: classes[int(session.run(["label"], {"images": image[None]})[0][0])]


def timed(label: Callable[[np.ndarray], str], photos: list[np.ndarray]) -> tuple[list[str], float]:
    """Return labels, and images per second of processor time."""
    label(photos[0])
    began = time.process_time()
    labels = [label(photo) for photo in photos]
    return labels, len(photos) / (time.process_time() - began)


def photographs(n: int, folder: Path) -> tuple[list[Path], list[np.ndarray]]:
    """Write n JPEG files of 427 x 640 pixels, parts of two photographs; return them, and their pixels."""
    folder.mkdir(exist_ok=True)
    both = load_sample_images().images
    paths = [folder / f"{i}.jpg" for i in range(n)]
    for i, path in enumerate(paths):
        pixels = np.roll(both[i % 2], (7 * i % 427, 16 * i % 640), axis=(0, 1))
        Image.fromarray(pixels).save(path, quality=90)
    return paths, [decoded(path) for path in paths]


def decoded(source: Path | np.ndarray) -> np.ndarray:
    return source if isinstance(source, np.ndarray) else np.asarray(Image.open(source).convert("RGB"))


def answers_of_file(path: Path, sources: Sequence[Path | np.ndarray], batch: int, threads: int) -> np.ndarray:
    """Return the probabilities that an exported file gives, (n, classes); the next batch is decoded meanwhile."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), settings)

    def batches() -> Iterator[np.ndarray]:
        starts = range(0, len(sources), batch)
        with ThreadPoolExecutor(1) as pool:
            load = lambda start: np.stack([decoded(one) for one in sources[start : start + batch]])  # noqa: E731
            loading = pool.submit(load, 0)
            for start in starts:
                pixels = loading.result()
                if start + batch < len(sources):
                    loading = pool.submit(load, start + batch)
                yield pixels

    return np.concatenate([session.run(["probabilities"], {"images": pixels})[0] for pixels in batches()])


def compare_many(model: ProbeModel, options: argparse.Namespace) -> None:
    """Label many photographs by `predict_images` and by the exported file, and print rates and differences."""
    path = options.work / "many.onnx"
    export(model, path, overwrite=True)
    files, pixels = photographs(options.many, options.work / "many")
    for what, sources in (("JPEG files", files), ("decoded pixels", pixels)):
        wall, cpu = time.perf_counter(), time.process_time()
        predictions = model.predict_images(list(sources))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        n = len(sources)
        print(f"{what}, predict_images: {n / cpu:.0f} images per CPU second, {n / wall:.0f} a second", flush=True)
        labels = np.array([model.classes.index(str(one.guess)) for one in predictions])
        probabilities = np.array([one.probability for one in predictions])
        for threads, batch in THREADS_AND_BATCHES:
            wall, cpu = time.perf_counter(), time.process_time()
            answers = answers_of_file(path, sources, batch, threads)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            difference = np.abs(answers[np.arange(n), labels] - probabilities)
            print(
                f"{what}, file, {threads} thread(s), batches of {batch}: {n / cpu:.0f} images per CPU second, "
                f"{n / wall:.0f} a second; labels {np.mean(answers.argmax(axis=1) == labels):.2%}, "
                f"probabilities differ by {difference.mean():.1e} (largest {difference.max():.1e})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--weights", type=Path, help="file of the weights, if they are not the default ones")
    parser.add_argument("--images", type=int, default=2000, help="test images of Fashion-MNIST")
    parser.add_argument("--folder", type=Path, help="folder of labelled images instead")
    parser.add_argument("--types", nargs="+", choices=EXPORTED_TYPES, default=EXPORTED_TYPES, help="types of weights")
    parser.add_argument("--image-size", type=int, default=128, help="side in pixels")
    parser.add_argument("--photos", type=int, default=40, help="photographs that are labelled")
    parser.add_argument("--many", type=int, metavar="N", help="compare with `predict` on N photographs alone")
    parser.add_argument("--work", type=Path, default=Path("bench-export"), help="folder for what is made")
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    if not options.many:
        torch.set_num_threads(1)
    print(describe_machine(), f"command: {shlex.join(sys.argv)}", sep="\n")
    if options.folder:
        images = load_images(options.folder)
    else:
        images = make_image_set({"test": read_split(SOURCE, SPLITS["test"], options.images)})
    images = ImageSet(images.ids, images.sources, labels=images.labels)  # without a split: all are cross-validated
    model = make_model(images, options)
    if options.many:
        compare_many(model, options)
        return
    china = load_sample_images().images[0]
    photos = [np.ascontiguousarray(np.roll(china, 16 * i, axis=1)) for i in range(options.photos)]
    ways: dict[str, Callable[[np.ndarray], str]] = {
        "predict_images": lambda image: str(model.predict_images([image], workers=1)[0].guess),
    }
    if options.backbone == DEFAULT_BACKBONE and options.weights is None:
        ways = {"plain torch": by_torch(model), **ways}
    print(f"{options.backbone}: {model.scores.cross_validated.accuracy} of {len(images)} images, cross-validated")
    for dtype in options.types:
        path = options.work / f"{dtype}.onnx"
        exported = export(model, path, dtype=dtype, images=images if dtype == "int8" else None)
        parity = exported.parity
        print(
            f"{dtype}: {exported.n_bytes / 1e6:.2f} MB, probabilities differ by up to {parity.native_difference:.1e}, "
            f"resized {parity.resized_difference:.1e}, labels {parity.n_same_labels} of {parity.n_images}"
        )
        if exported.cost is not None:
            low, high = (100 * end for end in exported.cost.loss_interval)
            print(
                f"int8 loses {100 * exported.cost.loss:.2f} points ({low:.2f} to {high:.2f}) of "
                f"{100 * exported.cost.float_accuracy:.2f} on {exported.cost.n} images"
            )
        ways[dtype] = by_file(path, model.classes)
    expected: list[str] | None = None
    with threadpool_limits(limits=1):
        for name, label in ways.items():
            labels, rate = timed(label, photos)
            expected = expected or labels
            if name != "int8" and labels != expected:
                raise AssertionError(f"{name}: other labels than {next(iter(ways))}")
            print(f"{name}: {rate:.1f} images/s")


if __name__ == "__main__":
    main()
