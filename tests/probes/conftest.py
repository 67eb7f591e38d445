"""Codes that all tests of probes share."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    kept = np.flatnonzero(y < 5)[:180]
    alive = X[kept].std(axis=0) > 0.1
    return X[kept][:, alive], np.array([f"digit {label}" for label in y[kept]])
