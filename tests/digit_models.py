"""Codes of digits read from their file, and the plain scikit-learn probes that models are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from plain_probes import PLAIN_SCALERS, PlainShrunkScaler
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from cnncodes.codes.file import CodesFile

N_TRAIN, N_TEST = 240, 160


def codes_of(path: Path, layers: Any, split: str | None) -> tuple[np.ndarray, np.ndarray]:
    with CodesFile.open(path) as file:
        rows = file.rows(split)
        return file.codes(layers, rows), file.labels[rows]


def plain(clf: str, C: float, scale: str = "shrunk", widths: tuple[int, ...] | None = None):
    scaler = PLAIN_SCALERS[scale]() if widths is None else PlainShrunkScaler(widths)
    if clf == "svm":
        return make_pipeline(scaler, LinearSVC(C=C, tol=1e-9, max_iter=100_000, dual=False))
    return make_pipeline(scaler, LogisticRegression(C=C, tol=1e-7, max_iter=10_000))
