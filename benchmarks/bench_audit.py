"""Does the audit find what is wrong, and nothing else?

    python benchmarks/bench_fashion_mnist.py --extract-only       # once: the codes of 70,000 images
    python benchmarks/bench_audit.py

Plants changed copies (resized, recompressed, mirrored, slightly cropped) among images of Fashion-MNIST and among
disjoint tiles of two photographs, extracts them as a user would, and counts how many are found and how many found pairs
were not planted, by codes alone and with the pictures. Times the search among 20,000 images. Then gives 5 % of the
labels of 2,000 images another class at random, and counts how many of those are among the suspects, and how many
suspects are such.
"""

from __future__ import annotations

import argparse
import io
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_fashion_mnist import SOURCE, describe_machine, read_split
from PIL import Image
from sklearn.datasets import load_sample_images

from cnncodes import CodesFile, extract
from cnncodes.images.loading import load_images
from cnncodes.insight.label_errors import find_label_errors
from cnncodes.insight.suspects import out_of_fold
from cnncodes.neighbours.duplicates import NEIGHBOURS, find_duplicates
from cnncodes.neighbours.nearest import nearest_rows, whitened
from cnncodes.neighbours.thumbnails import difference, read_thumbnails
from cnncodes.probes.decision_values import softmax
from cnncodes.vocabulary import AUTO

CODES = Path("bench-work/fashion-mnist-all-squash-auto.h5")
TILE = 64
FLIPPED = 0.05


def scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)))


def recompressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return Image.open(io.BytesIO(stream.getvalue()))


def cropped(image: Image.Image) -> Image.Image:
    x, y = max(1, round(0.04 * image.width)), max(1, round(0.04 * image.height))
    return image.crop((x, y, image.width - x, image.height - y))


CHANGES = {
    "resized to 75 %": scaled(0.75),
    "resized to 200 %": scaled(2),
    "JPEG, quality 75": recompressed,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cropped by 4 % of each side": cropped,
}


def tiles() -> list[Image.Image]:
    """Disjoint tiles of two photographs."""
    return [
        Image.fromarray(pixels[top : top + TILE, left : left + TILE])
        for pixels in load_sample_images().images
        for top in range(0, pixels.shape[0] - TILE + 1, TILE)
        for left in range(0, pixels.shape[1] - TILE + 1, TILE)
    ]


def clothes(images: np.ndarray, n: int) -> list[Image.Image]:
    return [Image.fromarray(images[i]) for i in np.random.default_rng(0).choice(len(images), n, replace=False)]


def plant(images: list[Image.Image], n_copies: int, folder: Path) -> None:
    """Write images, and a changed copy of each of the first `n_copies`."""
    folder.mkdir()
    changes = list(CHANGES.values())
    for i, image in enumerate(images):
        image.save(folder / f"{i:05}.png")
        if i < n_copies:
            changes[i % len(changes)](image).save(folder / f"{i:05}-copy.png")


def count_found(name: str, images: list[Image.Image], n_copies: int, work: Path, resize: str) -> None:
    folder = work / name
    plant(images, n_copies, folder)
    extract(folder, work / f"{name}.h5", layers=["penultimate"], resize=resize)
    kinds = list(CHANGES)
    with CodesFile.open(work / f"{name}.h5") as file:
        rows = file.rows(labelled=False)
        numbers = np.array([int(Path(one).name[:5]) for one in file.ids[rows]])
        for how, source in (("codes", None), ("pictures", folder)):
            pairs = numbers[find_duplicates(file, rows, source).pairs]
            true = pairs[pairs[:, 0] == pairs[:, 1], 0]
            by_kind = [
                f"{np.sum(true % len(kinds) == k) / len(range(k, n_copies, len(kinds))):.2f}" for k in range(len(kinds))
            ]
            false = len(pairs) - len(true)
            cells = [name, how, f"{len(rows)}", f"{n_copies}", f"{len(true) / n_copies:.3f}", *by_kind]
            print(f"| {' | '.join(cells)} | {false} ({100 * false / max(1, len(pairs)):.1f} %) |", flush=True)


def timed(title: str, work: Callable[[], Any]) -> Any:
    """Do it, and print how long it took: on a busy machine the seconds of the processor mean more."""
    began, used = time.perf_counter(), time.process_time()
    result = work()
    print(f"{title}: {time.perf_counter() - began:.1f} s ({time.process_time() - used:.1f} s of processor)", flush=True)
    return result


def time_search(codes: Path, images: np.ndarray) -> None:
    n = len(images)
    with CodesFile.open(codes) as file:
        X = file.codes("penultimate", file.rows("train")[:n])
    print()
    neighbours, _ = timed(f"{n:,} images, nearest by codes", lambda: nearest_rows(whitened(X), NEIGHBOURS))
    thumbnails = timed("pictures made small", lambda: read_thumbnails(load_images(images), range(n)))
    pairs = np.unique(np.sort(np.stack([np.repeat(np.arange(n), NEIGHBOURS), neighbours.ravel()], 1), axis=1), axis=0)
    timed(f"{len(pairs):,} pairs of pictures compared", lambda: difference(thumbnails, pairs))


def count_flipped(codes: Path, n: int, seeds: int) -> None:
    print(f"\n| {n} images, {100 * FLIPPED:.0f} % of labels flipped | suspects | found | of the suspects | seconds |")
    print("|---|--:|--:|--:|--:|")
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        with CodesFile.open(codes) as file:
            rows = np.sort(rng.choice(file.rows("train"), n, replace=False))
            X, y = file.codes("penultimate", rows), file.labels[rows]
        classes, truth = np.unique(y, return_inverse=True)
        flipped = rng.choice(n, round(FLIPPED * n), replace=False)
        given = truth.copy()
        given[flipped] = (truth[flipped] + rng.integers(1, len(classes), len(flipped))) % len(classes)
        began = time.perf_counter()
        search = out_of_fold(X, classes[given], n_jobs=AUTO)
        suspects = find_label_errors(given, softmax(search.decision, search.temperature))
        right = np.isin(suspects, flipped).sum()
        seconds = time.perf_counter() - began
        cells = [f"seed {seed}", f"{len(suspects)}", f"{right / len(flipped):.2f}", f"{right / len(suspects):.2f}"]
        print(f"| {' | '.join(cells)} | {seconds:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=Path, default=CODES, help=f"codes of Fashion-MNIST (default: {CODES})")
    parser.add_argument("--source", type=Path, default=SOURCE, help=f"folder of its files (default: {SOURCE})")
    parser.add_argument("--n", type=int, default=1000, help="images of Fashion-MNIST among which copies are planted")
    parser.add_argument("--timed", type=int, default=20_000, help="images of the timed search")
    parser.add_argument("--seeds", type=int, default=3, help="draws of flipped labels")
    options = parser.parse_args()
    images = read_split(options.source, "train", None)[0]
    print(f"| images | by | n | copies | found | {' | '.join(CHANGES)} | false pairs |")
    print("|" + "---|" * 2 + "--:|" * (len(CHANGES) + 4))
    with tempfile.TemporaryDirectory() as work:
        photographs = tiles()
        count_found("photographs", photographs, len(photographs), Path(work), "crop")
        count_found("Fashion-MNIST", clothes(images, options.n), options.n // 5, Path(work), "squash")
    time_search(options.codes, images[: options.timed])
    count_flipped(options.codes, 2000, options.seeds)
    print(f"\n{describe_machine()}\ncommand: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
