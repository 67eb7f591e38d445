"""Does the audit find what is wrong, and nothing else?

    python benchmarks/bench_fashion_mnist.py --extract-only       # once: the codes of 70,000 images
    apt-get install mate-backgrounds tuxpaint-stamps-default openclipart-png
    python benchmarks/bench_audit.py

Plants changed copies of twelve kinds among tiles of photographs (two of scikit-learn's, twelve of Debian's
mate-backgrounds), drawings and photographs cut out on white (tuxpaint-stamps-default), drawings (openclipart-png) and
images of Fashion-MNIST. Extracts all as a user would, and counts how many are found, by codes alone and with the small
pictures that the file keeps. Every other pair counts as false. Among the photographs is also what is no copy: other
objects on the same ground (stamps on one photograph), and bursts (four views of a scene, each shifted by 13 % of its
width against the last). The collections of drawings have copies of their own: drawings that are nearly alike at 64
pixels are left out first. Times the search among 20,000 images. Then gives 5 % of the labels of 2,000 images another
class at random, and counts how many of those are among the suspects, and how many suspects are such.
"""

from __future__ import annotations

import argparse
import io
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench_fashion_mnist import SOURCE, describe_machine, read_split
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from cnncodes import CodesFile, extract
from cnncodes.codes.thumbnails import SIDE
from cnncodes.images.loading import load_images
from cnncodes.insight.label_errors import find_label_errors
from cnncodes.insight.suspects import out_of_fold
from cnncodes.neighbours.copies import find_copies
from cnncodes.neighbours.duplicates import NEIGHBOURS, find_duplicates
from cnncodes.neighbours.nearest import nearest_rows, whitened
from cnncodes.neighbours.thumbnails import read_thumbnails
from cnncodes.probes.decision_values import softmax
from cnncodes.vocabulary import AUTO

CODES = Path("bench-work/fashion-mnist-all-squash-auto.h5")
SHARED = Path("/usr/share")
BACKGROUNDS, STAMPS, CLIPART = "backgrounds/mate/nature", "tuxpaint/stamps", "openclipart/png"
CLASSES = ("animals", "buildings", "food", "people", "plants", "transportation")  # others have series of like drawings
SMALL_TILE, LARGE_TILE = 106, 320  # pixels: of photographs that are 640 pixels wide, and 1280 to 2560
MAX_SIDE, MIN_SIDE = 320, 100  # pixels: larger drawings are reduced, smaller ones left out
MAX_FILE_SIDE = 2000  # pixels; a few are so large that they take seconds each
LEAST_APART = 0.02  # 1 less the correlation of two drawings at 64 pixels
LEAST_DEVIATION = 12  # grey levels, besides an even slope; plainer images are left out: sky is everywhere alike
FLIPPED = 0.05


def scenes(shared: Path) -> Iterator[Image.Image]:
    for path in sorted((shared / BACKGROUNDS).glob("*.jpg")):
        yield Image.open(path).convert("RGB")


def scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize(
        tuple(max(8, round(factor * side)) for side in image.size), Image.Resampling.LANCZOS
    )


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    def crop(image: Image.Image) -> Image.Image:
        x, y = max(1, round(share * image.width)), max(1, round(share * image.height))
        return image.crop((x, y, image.width - x, image.height - y))

    return crop


def turned(image: Image.Image) -> Image.Image:
    return image.rotate(5, Image.Resampling.BICUBIC, fillcolor=image.getpixel((0, 0)))


def bordered(image: Image.Image) -> Image.Image:
    dark = np.asarray(image).mean() < 128
    return ImageOps.expand(image, round(0.06 * max(image.size)), "white" if dark else "black")


def captioned(image: Image.Image) -> Image.Image:
    whole = ImageOps.expand(image, (0, 0, 0, max(10, round(0.12 * image.height))), "black")
    ImageDraw.Draw(whole).text((3, image.height), "IMG 1234 (c) 2019", fill="white")
    return whole


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half": scaled(0.5),
    "quarter": scaled(0.25),
    "JPEG 15": lambda image: recompressed(image, 15),
    "small, JPEG 30": lambda image: recompressed(scaled(0.35)(image), 30),
    "mirrored": ImageOps.mirror,
    "cropped 8 %": cropped(0.08),
    "cropped 10 %": cropped(0.10),
    "turned 5°": turned,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "contrast ½": lambda image: ImageEnhance.Contrast(image).enhance(0.5),
    "border": bordered,
    "caption": captioned,
}
TOO_MUCH = ("quarter", "small, JPEG 30", "caption")  # for images of 28 pixels


@dataclass
class Set:
    """Images of which the first `n_copies` are copied, and others that are no copies though they are alike."""

    name: str
    images: list[Image.Image]
    n_copies: int
    kinds: list[str] = field(default_factory=lambda: list(CHANGES))
    others: dict[str, list[Image.Image]] = field(default_factory=dict)
    resize: str = "crop"

    def write(self, folder: Path) -> None:
        """Write the files, each called by its image, and a copy also by its kind."""
        folder.mkdir()
        for i, image in enumerate(self.images):
            image.save(folder / f"{i:05}.png")
            if i < self.n_copies:
                kind = i % len(self.kinds)
                CHANGES[self.kinds[kind]](image).save(folder / f"{i:05}-{kind}.png")
        for name, images in self.others.items():
            for i, image in enumerate(images):
                image.save(folder / f"{name}{i:03}.png")


def tiles(shared: Path) -> list[Image.Image]:
    """Disjoint tiles of photographs."""
    photographs = [(Image.fromarray(pixels), SMALL_TILE) for pixels in load_sample_images().images]
    photographs += [(image, LARGE_TILE) for image in scenes(shared)]
    cut = [
        photograph.crop((left, top, left + side, top + side))
        for photograph, side in photographs
        for top in range(0, photograph.height - side + 1, side)
        for left in range(0, photograph.width - side + 1, side)
    ]
    return [tile for tile in cut if not is_plain(tile)]


def is_plain(image: Image.Image) -> bool:
    grey = np.asarray(image.resize((SIDE, SIDE)).convert("L"), float).ravel()
    y, x = np.indices((SIDE, SIDE)).reshape(2, -1)
    slope = np.stack([np.ones(SIDE**2), x, y], axis=1)
    return float((grey - slope @ np.linalg.lstsq(slope, grey)[0]).std()) < LEAST_DEVIATION


def drawings(folders: list[Path], n: int) -> list[Image.Image]:
    """Some of the drawings in folders, on white, none nearly like another."""
    paths = sorted(path for folder in folders for path in folder.rglob("*.png"))
    images: list[Image.Image] = []
    seen = np.empty((0, SIDE * SIDE))
    for i in np.random.default_rng(0).permutation(len(paths)):
        image = Image.open(paths[i])
        if max(image.size) > MAX_FILE_SIDE:
            continue
        image = image.convert("RGBA")
        image.thumbnail((MAX_SIDE, MAX_SIDE))
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        if min(image.size) < MIN_SIDE or is_plain(image):
            continue
        grey = np.asarray(image.resize((SIDE, SIDE)).convert("L"), float)
        views = np.stack([(one - one.mean()).ravel() / (SIDE * one.std()) for one in (grey, grey[:, ::-1])])
        if (seen @ views.T < 1 - LEAST_APART).all():
            images.append(image)
            seen = np.concatenate([seen, views[:1]])
        if len(images) == n:
            break
    return images


def on_one_ground(stamps: list[Image.Image], shared: Path) -> Iterator[Image.Image]:
    """Stamps on one photograph, each somewhere else in the middle."""
    ground = Image.open(shared / BACKGROUNDS / "GreenMeadow.jpg").convert("RGB").resize((400, 320))
    rng = np.random.default_rng(0)
    for stamp in stamps:
        small, scene = stamp.copy(), ground.copy()
        small.thumbnail((200, 200))
        mask = Image.fromarray(np.uint8(255 * (np.asarray(small).min(axis=2) < 245)))
        scene.paste(small, (100 + int(rng.integers(-20, 21)), 80 + int(rng.integers(-20, 21))), mask)
        yield scene


def bursts(shared: Path) -> Iterator[Image.Image]:
    """Four views of each scene, each shifted against the last."""
    rng = np.random.default_rng(0)
    for scene in scenes(shared):
        scene.thumbnail((900, 900))
        width, height = round(0.6 * scene.width), round(0.6 * scene.height)
        for i in range(4):
            left, top = round(0.13 * i * width), int(rng.integers(0, scene.height // 8))
            yield scene.crop((left, top, left + width, top + height))


def make_sets(shared: Path, clothes: np.ndarray, n_clothes: int) -> list[Set]:
    photographs, stamps = tiles(shared), drawings([shared / STAMPS], 400)
    alike = {"ground": list(on_one_ground(stamps[:100], shared)), "burst": list(bursts(shared))}
    chosen = np.random.default_rng(0).choice(len(clothes), n_clothes, replace=False)
    order = np.random.default_rng(0).permutation(len(photographs))
    kinds = [kind for kind in CHANGES if kind not in TOO_MUCH]
    return [
        Set("photographs", [photographs[i] for i in order], 192, others=alike),
        Set("stamps", stamps, 192),
        Set("drawings", drawings([shared / CLIPART / name for name in CLASSES], 1000), 240),
        Set("Fashion-MNIST", [Image.fromarray(clothes[i]) for i in chosen], 180, kinds, resize="squash"),
    ]


def count_found(one: Set, work: Path) -> tuple[Counter[str], Counter[str]]:
    """Print how many copies are found; return how many of each kind there are, and how many are found."""
    folder, path = work / one.name, work / f"{one.name}.h5"
    one.write(folder)
    planted = Counter(one.kinds[i % len(one.kinds)] for i in range(one.n_copies))
    found: Counter[str] = Counter()
    for how in ("codes", "codes and pictures"):
        extract(folder, path, layers=["penultimate"], resize=one.resize, thumbnails=how != "codes")
        with CodesFile.open(path) as file:
            rows = file.rows(labelled=False)
            names = np.array([Path(name).stem for name in file.ids[rows]])
            began = time.process_time()
            pairs = names[find_duplicates(file, rows).pairs]
            seconds = time.process_time() - began
        found.clear()
        false: Counter[str] = Counter()
        for first, second in np.sort(pairs, axis=1):  # a copy's name is that of its image, and more
            if second.startswith(first):
                found[one.kinds[int(second.partition("-")[2])]] += 1
            else:
                false["images" if second[0].isdecimal() else "others"] += 1
        cells = [one.name, how, len(names), one.n_copies, f"{found.total() / one.n_copies:.3f}"]
        cells += [false["images"], false["others"] if one.others else "", f"{seconds:.1f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return planted, found


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
    nearest = timed(f"{n:,} images, nearest by codes", lambda: nearest_rows(whitened(X), NEIGHBOURS))
    records = timed("pictures made small", lambda: read_thumbnails(load_images(images), range(n)))
    timed("copies found", lambda: find_copies(records, *nearest))


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
    parser.add_argument("--shared", type=Path, default=SHARED, help=f"where the packages are (default: {SHARED})")
    parser.add_argument("--timed", type=int, default=20_000, help="images of the timed search")
    parser.add_argument("--seeds", type=int, default=3, help="draws of flipped labels")
    options = parser.parse_args()
    images = read_split(options.source, "train", None)[0]
    print("| images | by | n | copies | found | false pairs | … of alike images | s of processor |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    planted, found = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as work:
        for one in make_sets(options.shared, images, options.n):
            counts = count_found(one, Path(work))
            planted += counts[0]
            found += counts[1]
    print(
        f"\n{found.total()} of {planted.total()} copies are found by codes and pictures:\n\n| {' | '.join(planted)} |"
    )
    print("|" + "--:|" * len(planted))
    print(f"| {' | '.join(f'{found[kind] / count:.2f}' for kind, count in planted.items())} |")
    time_search(options.codes, images[: options.timed])
    count_flipped(options.codes, 2000, options.seeds)
    print(f"\n{describe_machine()}\ncommand: {shlex.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
