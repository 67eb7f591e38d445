"""How many rows a second does one process write into a codes file?

    python benchmarks/bench_writer.py --rows 100000

Writes made-up codes of 1,280 numbers in float16, and then those of the five default layers of mobilenet_v2 with small
pictures, in units of 256 rows, through `CodesWriter` as `extract` does: pictures, codes, states, checksums, and a sync
every 30 seconds and at the end. Before the clock starts, the file is laid out and its space is claimed. The first
figure is rows a second of wall-clock time, the second of processor time, the third that of a plain copy of the same
bytes to the same disk, with a sync at its end. What was written is compared with what was given first.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench_fashion_mnist import describe_machine

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.thumbnails import blank
from cnncodes.codes.writer import CodesWriter
from cnncodes.extraction.fill import SYNC_SECONDS

UNIT = 256  # rows that a machine sends at once
WIDTHS = {"layer1": 24, "layer2": 32, "layer3": 96, "layer4": 1280, "penultimate": 1280}  # of mobilenet_v2
LINKS = {"layer4": "penultimate"}  # the same numbers, stored once


def made_up_provenance(layers: list[str]) -> Provenance:
    """Return a provenance of mobilenet_v2 with these layers, in float16."""
    entries = {
        name: {"n_features": WIDTHS[name], "pooling": "avg", "map_shape": [WIDTHS[name]], "dtype": "float16"}
        for name in layers
    }
    links = {name: target for name, target in LINKS.items() if name in layers}
    return Provenance.from_dict({"backbone": "mobilenet_v2", "weights": "none", "layers": entries, "links": links})


def made_up_table(n: int) -> ImageTable:
    """Return a table of n images in 1,000 classes, with names as long as those of ImageNet."""
    labels = [f"n{row % 1000:08}" for row in range(n)]
    ids = [f"train/{label}/{label}_{row:08}.JPEG" for row, label in enumerate(labels)]
    return ImageTable(ids, labels, sizes=[110_000] * n, changed=[10**18] * n)


def write_rows(
    writer: CodesWriter, codes: dict[str, np.ndarray], sha256: np.ndarray, pictures: np.ndarray | None
) -> None:
    """Write every row of a file; each unit has the same codes and pictures, and digests of its own."""
    synced = time.monotonic()
    for start in range(0, len(writer), UNIT):
        rows = np.arange(start, min(start + UNIT, len(writer)))
        digests = sha256[rows]
        if pictures is not None:
            writer.write_thumbnails(rows, pictures[: len(rows)], digests)
        writer.write(rows, {name: block[: len(rows)] for name, block in codes.items()}, digests)
        if time.monotonic() - synced > SYNC_SECONDS:
            writer.sync()
            synced = time.monotonic()
    writer.sync()


def measure(path: Path, n: int, layers: list[str], *, thumbnails: bool, profile: bool) -> None:
    """Write a file of n rows, check it, and print the rates."""
    rng = np.random.default_rng(0)
    provenance = made_up_provenance(layers)
    codes = {name: rng.random((UNIT, WIDTHS[name]), np.float32).astype(np.float16) for name in provenance.stored_layers}
    sha256 = rng.integers(0, 256, (n, 32), np.uint8)
    pictures = blank(UNIT)
    pictures["grey"], pictures["size"] = rng.integers(0, 256, pictures["grey"].shape), 500
    CodesWriter.create(path, made_up_table(n), provenance, thumbnails=thumbnails)
    profiler = cProfile.Profile()
    with CodesWriter(path) as writer:
        if profile:
            profiler.enable()
        wall, processor = time.perf_counter(), time.process_time()
        write_rows(writer, codes, sha256, pictures if thumbnails else None)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        profiler.disable()
    check(path, codes)
    n_bytes = n * (sum(block[0].nbytes for block in codes.values()) + thumbnails * pictures.itemsize)
    path.unlink()
    plain = copy_seconds(path, n_bytes)
    print(
        f"| {', '.join(layers)}{' and pictures' * thumbnails} | {n:,} | {n_bytes / n / 1e3:.1f} | {n / wall:,.0f} "
        f"| {n / processor:,.0f} | {n / plain:,.0f} | {plain / wall:.2f} |",
        flush=True,
    )
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(15)


def check(path: Path, codes: dict[str, np.ndarray]) -> None:
    """Compare every row with its checksum, and some with what was written."""
    with CodesFile.open(path) as file:
        assert file.complete
        assert not len(file.verify())
        for name, block in codes.items():
            np.testing.assert_array_equal(file.codes(name, np.arange(UNIT)), block.astype(np.float32))


def copy_seconds(path: Path, n_bytes: int) -> float:
    """Seconds to write as many bytes in blocks of 1 MiB into space that is claimed, and to sync them."""
    block = np.random.default_rng(1).bytes(1 << 20)
    with path.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
        os.fsync(file.fileno())
        started = time.perf_counter()
        for _ in range(n_bytes // len(block)):
            file.write(block)
        os.fdatasync(file.fileno())
        seconds = time.perf_counter() - started
    path.unlink()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="Folder on the disk to measure.  [default: /tmp]")
    parser.add_argument("--profile", action="store_true", help="Print where the time goes; the rates are lower then.")
    options = parser.parse_args()
    print(describe_machine())
    print("| written | rows | kB a row | rows/s | rows/s of processor | plain copy, rows/s | share of the copy |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "codes.h5"
        for _ in range(options.rounds):
            measure(path, options.rows, ["penultimate"], thumbnails=False, profile=options.profile)
            measure(path, options.rows, list(WIDTHS), thumbnails=True, profile=options.profile)


if __name__ == "__main__":
    main()
