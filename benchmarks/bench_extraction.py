"""How fast do JPEG files become codes, beside other tools and beside what the machine can do?

    python benchmarks/bench_extraction.py                                     # cnncodes, a plain loop, the limit
    python benchmarks/bench_extraction.py --others                            # also thingsvision and img2vec_pytorch
    python benchmarks/bench_extraction.py --backbone resnet50 --others
    python benchmarks/bench_extraction.py --large                             # photographs of 12 megapixels
    python benchmarks/bench_extraction.py --memory                            # 1,000 and 100,000 images
    python benchmarks/bench_extraction.py --backbone resnet50 --device cuda   # beside the forward pass of the GPU alone
    python benchmarks/bench_extraction.py --feed                              # how many images reach a network at most

Each side is a process of its own that reads a folder of JPEG files, cut from the two photographs that come with
scikit-learn, and writes the penultimate codes to a file. A first run of each is thrown away: it pays for what torch's
compiler then keeps in its cache. After that, each runs on a small and on a large folder (for cnncodes a larger one
still), in turn with the others; the rate is that of the images that the large one has more, so that the start is not in
it, and what it takes is told apart. If the large folder takes no longer, there is no rate, and a line says so.
thingsvision and img2vec_pytorch get an environment of their own in the work folder. Where no weights are at hand (all
but mobilenet_v2) the networks have random ones: the time is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

OTHERS = {"thingsvision": "thingsvision==2.7.3", "img2vec": "img2vec_pytorch==1.0.2"}
PROJECTED = (600, 5_000, 50_000)
BATCH = 32  # of the plain loop and the other tools
LIMIT_IMAGES = 64
DISTINCT = 6_000
FORWARDS = 50  # batches


# ---------------------------------------------------------------------------------------------------------- the sides


def run_cnncodes(images: Path, backbone: str, weights: Path, out: Path, device: str, *options: str) -> None:
    from cnncodes.cli.main import main

    arguments = ["extract", str(images), "-o", str(out), "--backbone", backbone, "--layer", "penultimate"]
    arguments += ["--device", device]
    main([*arguments, *(["--weights", str(weights)] if backbone != "mobilenet_v2" else []), *options])


def run_plain(images: Path, backbone: str, weights: Path, out: Path, device: str) -> None:
    """What a careful person writes with torchvision: eager, float32, a DataLoader with a worker for each core."""
    import numpy as np
    import torch
    import torchvision

    network = torchvision.models.get_model(backbone, weights=None)
    network.load_state_dict(torch.load(weights, weights_only=True))
    *_, last = network.children()
    name = next(name for name, module in network.named_children() if module is last)
    setattr(network, name, torch.nn.Identity())
    network.eval().to(device)
    transforms = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].transforms()
    dataset = torchvision.datasets.ImageFolder(images, transform=transforms)
    workers, pinned = len(os.sched_getaffinity(0)), device != "cpu"
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=workers, pin_memory=pinned)
    with torch.inference_mode():
        codes = [network(batch.to(device, non_blocking=pinned)).cpu().numpy() for batch, _ in loader]
    np.save(out, np.concatenate(codes))


def run_thingsvision(images: Path, backbone: str, weights: Path, out: Path, device: str) -> None:
    import torch
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset
    from thingsvision.utils.storing import save_features

    extractor = get_extractor(model_name=backbone, source="torchvision", device=device, pretrained=False)
    extractor.model.load_state_dict(torch.load(weights))
    dataset = ImageDataset(
        root=str(images), out_path=str(out), backend="pt", transforms=extractor.get_transformations()
    )
    batches = DataLoader(dataset=dataset, batch_size=BATCH, backend="pt")
    module = {"mobilenet_v2": "classifier.0", "resnet50": "avgpool"}[backbone]
    features = extractor.extract_features(batches=batches, module_name=module, flatten_acts=True)
    save_features(features, out_path=str(out), file_format="npy")


def run_img2vec(images: Path, backbone: str, weights: Path, out: Path, device: str) -> None:
    """It has no mobilenet_v2, and its loop is the user's: lists of PIL images."""
    import numpy as np
    from img2vec_pytorch import Img2Vec
    from PIL import Image

    img2vec = Img2Vec(cuda=device != "cpu", model=backbone, layer_output_size=2048)
    paths = sorted(images.rglob("*.jpg"))
    batches = (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))
    codes = [img2vec.get_vec([Image.open(path).convert("RGB") for path in batch]) for batch in batches]
    np.save(out, np.concatenate(codes))


SIDES: dict[str, Callable[[Path, str, Path, Path, str], None]] = {
    "cnncodes": lambda *about: run_cnncodes(*about, "--no-compile"),
    "cnncodes, compiled": lambda *about: run_cnncodes(*about, "--compile"),
    "cnncodes, float32": lambda *about: run_cnncodes(
        *about, "--no-compile", "--precision", "fp32", "--dtype", "float32"
    ),
    "plain loop": run_plain,
    "thingsvision": run_thingsvision,
    "img2vec": run_img2vec,
}


# ---------------------------------------------------------------------------------------------------------- the images


def make_photos(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Make JPEG files of this size, in two classes, with a fixed seed; those that are there stay.

    From `DISTINCT` on, they are links to the first ones.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for i in range(count):
        path = folder / ("china", "flower")[i % 2] / f"{i:06d}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if i >= DISTINCT:
            os.link(path.with_name(f"{i % DISTINCT:06d}.jpg"), path)
            continue
        rng = np.random.default_rng(i)
        width = int(rng.integers(260, 560))
        height = width * size[1] // size[0]
        left, top = int(rng.integers(0, 640 - width)), int(rng.integers(0, 427 - height + 1))
        crop = photos[i % 2].crop((left, top, left + width, top + height)).resize(size, Image.Resampling.BICUBIC)
        noise = rng.normal(0, 4, (*size[::-1], 1)).astype(np.float32)  # of a sensor: else the files are too small
        pixels = np.clip(np.asarray(crop, np.float32) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=int(rng.integers(80, 96)))
    return folder


def make_weights(folder: Path, backbone: str) -> Path:
    import torch
    import torchvision

    from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

    if backbone == "mobilenet_v2":
        return shipped_path(EMBEDDED_WEIGHTS)
    # A name under which img2vec_pytorch finds it, too
    url = torchvision.models.get_model_weights(backbone).DEFAULT.url  # type: ignore[attr-defined]
    path = folder / "torch" / "hub" / "checkpoints" / Path(url).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(backbone, weights=None).state_dict(), path)
    return path


def make_environment(folder: Path, tool: str) -> Path:
    """Install another tool, with the versions that it asks for: the two do not go with the same torchvision."""
    python = folder / tool / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / tool], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", OTHERS[tool]], check=True)
    return python


# ------------------------------------------------------------------------------------------------------- measurements


def seconds_of(side: str, images: Path, args: argparse.Namespace, python: Path) -> float:
    """Run one side in a process of its own, from the start of the interpreter to its end."""
    out = args.work / "out" / f"{side.replace(', ', '-')}-{time.monotonic_ns()}.h5"
    out.parent.mkdir(exist_ok=True)
    about = [images, args.backbone, args.weights, out, args.device]
    environment = {**os.environ, "TORCH_HOME": str(args.work / "torch")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # which would make imports three times as slow as users have them
    started = time.perf_counter()
    run = subprocess.run(
        [python, __file__, "--side", side, *map(str, about)], env=environment, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if run.returncode:
        sys.exit(f"{side} failed:\n{run.stderr[-2000:]}")
    return seconds


def limit(images: Path, args: argparse.Namespace, *, compiled: bool) -> tuple[float, float]:
    """Milliseconds to decode and resize an image, on one core, and to compute its codes, on one core or on the GPU.

    A GPU is given batch after batch, which lie in its memory, and waited for at the end.
    """
    import torch

    from cnncodes.extraction.settings import Settings, build_network
    from cnncodes.images.decoding import decode

    torch.set_num_threads(1)
    weights = None if args.backbone == "mobilenet_v2" else str(args.weights)
    about = {"backbone": args.backbone, "weights": weights, "layers": "penultimate", "device": args.device}
    network = build_network(Settings(**about, compile=compiled))
    network.warm_up()
    preprocessing = network.backbone.preprocessing
    files = [path.read_bytes() for path in sorted(images.rglob("*.jpg"))[:LIMIT_IMAGES]]

    def prepare(data: bytes) -> torch.Tensor:
        return preprocessing.geometry(torch.from_numpy(decode(data, enough=preprocessing.enough)))

    batch = torch.stack([prepare(data) for data in files[: min(network.batch_size, len(files))]])
    decoding = median_seconds(lambda: [prepare(data) for data in files]) / len(files)
    if args.device == "cpu":
        forward = median_seconds(lambda: [network(batch) for _ in range(8)]) / 8 / network.batch_size
        return decoding * 1e3, forward * 1e3
    batch = batch.repeat(network.batch_size // len(batch), 1, 1, 1).to(network.plan.devices[0])

    def forwards() -> None:
        with torch.inference_mode():
            for _ in range(FORWARDS):
                network._forwards[0](batch)
        torch.accelerator.synchronize()

    return decoding * 1e3, median_seconds(forwards) / FORWARDS / network.batch_size * 1e3


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def marginal_seconds(counts: tuple[int, int], seconds: tuple[float, float]) -> float | None:
    """Return the seconds of each image that the second of two runs had more; None where more images took no longer."""
    extra, longer = counts[1] - counts[0], seconds[1] - seconds[0]
    return longer / extra if extra > 0 and longer > 0 else None


def time_sides(sides: dict[str, Path], args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Return seconds an image and seconds of the start, for each side that has a rate in every round."""
    few, *larger = (make_photos(args.work / f"{args.kind}-{n}", n, args.size) for n in args.counts)
    rates: dict[str, list[float]] = {side: [] for side in sides}
    starts: dict[str, list[float]] = {side: [] for side in sides}
    for side, python in sides.items():
        print(f"thrown away: {side}: {seconds_of(side, few, args, python):.1f} s", file=sys.stderr, flush=True)
    for round_ in range(args.rounds):
        for side, python in sides.items():
            # of fast sides more, or the differences between two starts would be a large part of the time
            many = side.startswith("cnncodes")
            counts = args.counts[0], args.counts[1 + many]
            seconds = seconds_of(side, few, args, python), seconds_of(side, larger[many], args, python)
            took = f"{counts[0]:,} images {seconds[0]:.1f} s, {counts[1]:,} {seconds[1]:.1f} s"
            print(f"round {round_ + 1}: {side}: {took}", file=sys.stderr, flush=True)
            per_image = marginal_seconds(counts, seconds)
            if per_image is None:
                print(f"no rate of {side}: {took}; more --counts give one", flush=True)
                rates.pop(side, None)
            elif side in rates:
                rates[side].append(per_image)
                starts[side].append(seconds[0] - counts[0] * per_image)
    return {side: (statistics.median(rates[side]), max(0.0, statistics.median(starts[side]))) for side in rates}


def compare_sides(args: argparse.Namespace) -> None:
    sides = {
        side: Path(sys.executable) for side in ("cnncodes", "cnncodes, compiled", "cnncodes, float32", "plain loop")
    }
    if args.others:
        sides["thingsvision"] = args.python or make_environment(args.work, "thingsvision")
        if args.backbone.startswith("resnet"):
            sides["img2vec"] = make_environment(args.work, "img2vec")
    timed = time_sides(sides, args)
    per_image, start = ({side: values[i] for side, values in timed.items()} for i in range(2))
    print(f"\n{args.backbone}, {args.kind} photographs, {args.counts} files; seconds for n images")
    print(f"{'side':22}{'images/s':>10}{'start s':>9}" + "".join(f"{n:>10,}" for n in PROJECTED))
    for side in timed:
        totals = "".join(f"{start[side] + n * per_image[side]:>10.0f}" for n in PROJECTED)
        print(f"{side:22}{1 / per_image[side]:>10.1f}{start[side]:>9.1f}{totals}")
    ours = [side for side in ("cnncodes", "cnncodes, compiled") if side in timed]
    for rival in [side for side in timed if not side.startswith("cnncodes")]:
        for side in ours:
            whole = [(start[rival] + n * per_image[rival]) / (start[side] + n * per_image[side]) for n in PROJECTED]
            print(
                f"{side} against {rival}: {per_image[rival] / per_image[side]:.1f} × the rate; with start "
                + ", ".join(f"{ratio:.1f} × for {n:,}" for n, ratio in zip(PROJECTED, whole, strict=True))
            )
    cores = len(os.sched_getaffinity(0))
    few = make_photos(args.work / f"{args.kind}-{args.counts[0]}", args.counts[0], args.size)
    for side in ours:
        decoding, forward = limit(few, args, compiled="compiled" in side)
        if args.device == "cpu":
            most = cores * 1e3 / (decoding + forward)
            what = f"{cores} cores / ({decoding:.2f} ms decoding + {forward:.2f} ms forward) = {most:.0f} images/s"
        else:
            most = 1e3 / forward
            what = f"{most:.0f} images/s forward ({cores} cores decode {cores * 1e3 / decoding:.0f})"
        print(f"limit of {side}: {what}; reached: {1 / per_image[side] / most:.0%}")


def measure_feed(args: argparse.Namespace) -> None:
    """Images that are decoded, resized and put into batches each second, by workers that have no network to run."""
    import numpy as np
    import torch

    from cnncodes.extraction.settings import Settings, build_network
    from cnncodes.extraction.workers import run_batches
    from cnncodes.images.loading import load_images

    network = build_network(Settings(layers="penultimate", compile=False, batch_size=64))
    codes = np.zeros((network.batch_size, 1280), np.float16)

    class NoNetwork:
        backbone, batch_size = network.backbone, network.batch_size

        def warm_up(self, n_images: int) -> None: ...

        def __call__(self, pixels: torch.Tensor, replica: int) -> dict[str, np.ndarray]:
            return {"penultimate": codes[: len(pixels)]}

    images = load_images(make_photos(args.work / f"{args.kind}-{args.counts[-1]}", args.counts[-1], args.size))
    cores = len(os.sched_getaffinity(0))
    for workers in sorted({1, 2, 4, 8, 16, cores}):
        if workers <= cores:
            seconds = median_seconds(
                lambda workers=workers: list(run_batches(images, np.arange(len(images)), NoNetwork(), workers=workers)),
                repeats=3,
            )
            print(f"{workers} workers: {len(images) / seconds:,.0f} images/s")


def compare_memory(args: argparse.Namespace) -> None:
    """Peak resident memory for few and many small images; the files of many are links to a thousand."""
    files = sorted(make_photos(args.work / "tiny", 1000, (48, 36)).rglob("*.jpg"))
    peaks = {}
    for n in (1_000, 100_000):
        folder = args.work / f"tiny-{n}"
        for i in range(n):
            path = folder / f"{i % 10}" / f"{i:06d}.jpg"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(files[i % len(files)], path)
        out = args.work / "out" / f"memory-{n}-{time.monotonic_ns()}.h5"
        out.parent.mkdir(exist_ok=True)
        command = [sys.executable, __file__, "--side", "memory", str(folder), "mobilenet_v2", "", str(out), args.device]
        peaks[n] = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        print(f"{n:>8,} images: {peaks[n]:.0f} MiB")
    print(f"ratio {peaks[100_000] / peaks[1_000]:.3f}")


def run_memory(images: Path, backbone: str, weights: Path, out: Path, device: str) -> None:
    from cnncodes import extract

    extract(images, out, backbone=backbone, layers=["penultimate"], image_size=32, compile=False, device=device)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    if "--side" in sys.argv:
        side, images, backbone, weights, out, device = sys.argv[2:]
        run = {**SIDES, "memory": run_memory}[side]
        run(Path(images), backbone, Path(weights), Path(out), device)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenet_v2", help="default: %(default)s")
    parser.add_argument("--work", type=Path, default=Path("bench-work"), help="folder for images and codes")
    parser.add_argument("--counts", type=int, nargs=3, help="files: few, many, and many for cnncodes")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--others", action="store_true", help="also thingsvision and img2vec_pytorch")
    parser.add_argument(
        "--python", type=Path, help="interpreter that has thingsvision, instead of an environment made here"
    )
    parser.add_argument("--large", action="store_true", help="200 photographs of 12 megapixels")
    parser.add_argument("--memory", action="store_true", help="peak memory for 1,000 and 100,000 images")
    parser.add_argument("--feed", action="store_true", help="images that are decoded and put together in a second")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: %(default)s")
    args = parser.parse_args()
    from bench_fashion_mnist import describe_machine

    print(describe_machine(), f"command: {shlex.join(sys.argv)}", sep="\n")
    args.work.mkdir(parents=True, exist_ok=True)
    args.kind, args.size = ("large", (4000, 3000)) if args.large else ("small", (500, 375))
    usual = [40, 200, 200] if args.large else [600, 1800, 6000] if args.device == "cpu" else [3000, 15_000, 60_000]
    args.counts = args.counts or usual
    args.weights = make_weights(args.work, args.backbone)
    (compare_memory if args.memory else measure_feed if args.feed else compare_sides)(args)


if __name__ == "__main__":
    main()
