"""Codes files of scikit-learn's digits, made in a moment: the layers are parts of the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.writer import CodesWriter

SHUFFLED = np.random.default_rng(0).permutation(1797)  # as they come, the last digits are by other writers
X_DIGITS, Y_DIGITS = (values[SHUFFLED] for values in load_digits(return_X_y=True))
LAYERS = {"layer1": slice(0, 24), "penultimate": slice(24, 64)}
DESCRIPTION = {
    "backbone": "tiny",
    "weights": "none",
    "weights_sha256": "ab" * 32,
    "preprocessing": {
        "resize": 36,
        "image_size": 32,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
        "mode": "crop",
    },
    "layers": {
        name: {"n_features": part.stop - part.start, "pooling": "avg", "map_shape": [part.stop - part.start, 4, 4]}
        for name, part in LAYERS.items()
    },
    "links": {},
    "pooling": "avg",
    "precision": "fp32",
    "runtime": {"device": "cpu", "batch_size": 8},
}
Labels = list[str] | None


def write_codes(
    path: Path,
    rows: np.ndarray,
    labels: Labels,
    splits: Labels = None,
    *,
    description: dict[str, Any] = DESCRIPTION,
    done: int | None = None,
    failed: tuple[int, ...] = (),
) -> Path:
    """Make a codes file of digits; the layers are parts of the pixels."""
    table = ImageTable([f"{row:04}.png" for row in rows], labels, splits=splits)
    CodesWriter.create(path, table, Provenance.from_dict(description))
    numbers = np.array([i for i in range(len(rows)) if i not in failed], np.int64)[:done]
    digests = np.zeros((len(rows), 32), np.uint8)
    digests[:, :2] = np.column_stack(np.divmod(rows + 1, 256))
    with CodesWriter(path) as file:
        codes = {name: X_DIGITS[rows][numbers][:, part].astype(np.float32) for name, part in LAYERS.items()}
        file.write(numbers, codes, digests[numbers])
        for row in failed:
            file.fail(row, "it is broken", digests[row])
    return path


def names(rows: np.ndarray) -> list[str]:
    return [f"digit {label}" for label in Y_DIGITS[rows]]
