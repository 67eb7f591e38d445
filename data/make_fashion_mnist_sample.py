"""Make the sample set in ``fashion-mnist-sample/`` from the Fashion-MNIST of Debian's package dataset-fashion-mnist.

    python data/make_fashion_mnist_sample.py

It needs nothing but Python, gives the same bytes on every machine, and prints the SHA-256 of the tree.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import shutil
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path("/usr/share/datasets/fashion-mnist")
TARGET = Path(__file__).resolve().parent / "fashion-mnist-sample"
SEED = 0
SIDE = 28  # pixels
SPLITS = {"train": ("train", 40), "test": ("t10k", 20)}  # folder: prefix of the files, images a class
# In the order of the data set's labels 0 to 9, with its names made safe for file systems.
CLASSES = (
    "T-shirt_top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle_boot",
)


def read_idx(path: Path, magic: int) -> bytes:
    """Return the values of a gzipped IDX file of bytes, without its header."""
    content = gzip.decompress(path.read_bytes())
    n_axes = magic & 0xFF
    found, *shape = struct.unpack_from(f">{1 + n_axes}I", content)
    values = content[4 * (1 + n_axes) :]
    if found != magic or len(values) != _product(shape):
        raise SystemExit(f"{path}: not an IDX file of {n_axes} axes, or damaged")
    return values


def _product(shape: list[int]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def chosen(labels: bytes, split: str, n_per_class: int) -> Iterator[tuple[int, int]]:
    """Yield (index, label) of `n_per_class` images of each class.

    They are those whose index has the smallest SHA-256, together with the seed: unlike the order of a random number
    generator, that is the same in every version of Python.
    """
    ranked = sorted(range(len(labels)), key=lambda i: hashlib.sha256(f"{SEED}:{split}:{i}".encode()).digest())
    left = dict.fromkeys(range(len(CLASSES)), n_per_class)
    for index in ranked:
        label = labels[index]
        if left[label]:
            left[label] -= 1
            yield index, label


def png(pixels: bytes) -> bytes:
    """Encode 28 × 28 grey values, uncompressed: what zlib compresses to depends on its version."""
    rows = b"".join(b"\0" + pixels[start : start + SIDE] for start in range(0, SIDE * SIDE, SIDE))  # 0: no filter
    stored = b"\x78\x01" + b"\x01" + struct.pack("<HH", len(rows), len(rows) ^ 0xFFFF) + rows
    stream = stored + struct.pack(">I", zlib.adler32(rows))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)  # 8 bits, grey, not interlaced
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def make_sample(source: Path, target: Path) -> None:
    """Write the sample anew into `target`; what was in its ``train`` and ``test`` folders is removed."""
    for split, (prefix, n_per_class) in SPLITS.items():
        images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz", 0x803)
        labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz", 0x801)
        shutil.rmtree(target / split, ignore_errors=True)
        for name in CLASSES:
            (target / split / name).mkdir(parents=True)
        for index, label in chosen(labels, split, n_per_class):
            pixels = images[index * SIDE * SIDE : (index + 1) * SIDE * SIDE]
            (target / split / CLASSES[label] / f"{index:05}.png").write_bytes(png(pixels))


def tree_sha256(folder: Path) -> str:
    """Return what ``find train test -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`` prints in `folder`."""
    files = (path for split in SPLITS for path in (folder / split).rglob("*") if path.is_file())
    paths = sorted(path.relative_to(folder).as_posix() for path in files)
    lines = [f"{hashlib.sha256((folder / path).read_bytes()).hexdigest()}  {path}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help=f"folder of the IDX files (default: {SOURCE})")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder that is written (default: beside this)")
    options = parser.parse_args()
    if not options.source.is_dir():
        sys.exit(f"no folder {options.source}: install Debian's dataset-fashion-mnist, or use --source")
    make_sample(options.source, options.target)
    print(tree_sha256(options.target))


if __name__ == "__main__":
    main()
