"""Digits with a split, and a comparison of their layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from digit_codes import names, write_codes

from cnncodes.insight.compare import compare
from cnncodes.insight.comparison import Comparison


@pytest.fixture(scope="session")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes; of 400 images, 240 are to train on."""
    rows = np.arange(400)
    path = tmp_path_factory.mktemp("split") / "codes.h5"
    return write_codes(path, rows, names(rows), ["train"] * 240 + ["test"] * 160)


@pytest.fixture(scope="session")
def comparison(codes: Path) -> Comparison:
    layers = ["layer1", "penultimate", "layer1+penultimate"]
    return compare(codes, clfs=["svm"], layers=layers, cv=3, repeats=2)
