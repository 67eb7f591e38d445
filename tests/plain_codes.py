"""A codes file of twelve made-up rows: two layers with codes, and one that is a link."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnncodes.codes.provenance import Provenance
from cnncodes.codes.structure import COVERED_FROM, LENGTH_BYTES, write_block
from cnncodes.codes.writer import CodesWriter

DESCRIPTION = {
    "backbone": "tiny",
    "weights": "none",
    "layers": {
        "layer4": {"n_features": 5, "pooling": "avg", "map_shape": [5, 2, 2]},
        "layer1": {"n_features": 3, "pooling": "avg", "map_shape": [3, 8, 8]},
        "penultimate": {"n_features": 5, "pooling": "avg", "map_shape": [5]},
    },
    "links": {"layer4": "penultimate"},
}
PROVENANCE = Provenance.from_dict(DESCRIPTION)
N = 12
IDS = [f"rosé/{i}\n🌹.png" for i in range(N - 1)] + ["-tulip/0.png"]
LABELS = ["rosé"] * (N - 1) + ["-tulip"]
RANDOM = np.random.default_rng(0)
CODES = {"layer1": RANDOM.random((N, 3), np.float32), "penultimate": RANDOM.random((N, 5), np.float32)}
DIGESTS = RANDOM.integers(1, 256, (N, 32)).astype(np.uint8)


def write(file: CodesWriter, rows: list[int]) -> None:
    file.write(np.array(rows), {name: codes[rows] for name, codes in CODES.items()}, DIGESTS[rows])


def reseal(path: Path) -> None:
    """Let the block vouch for the structure as it is now, as whoever forges a file can."""
    with path.open("r+b") as file:
        file.seek(COVERED_FROM)
        write_block(file, int.from_bytes(file.read(LENGTH_BYTES), "little"))


def put_header(h5: h5py.File, name: str, value: Any) -> None:
    """Put another description, or other classes, in the place of the old ones, with a digest that fits."""
    del h5[name]
    h5[name] = np.array([value.encode()]) if isinstance(value, str) and value else value
    if isinstance(values := h5[name][()], np.ndarray):
        h5[name].attrs["sha256"] = np.bytes_(hashlib.sha256(values.tobytes()).hexdigest())
