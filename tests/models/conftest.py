"""Codes files of digits, and a model of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from digit_codes import Y_DIGITS, names, write_codes
from digit_models import N_TEST, N_TRAIN

from cnncodes.models.fit import fit
from cnncodes.models.model import ProbeModel


@pytest.fixture(scope="session")
def split_codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes, with a train and a test split."""
    rows = np.arange(N_TRAIN + N_TEST)
    path = tmp_path_factory.mktemp("split") / "codes.h5"
    return write_codes(path, rows, names(rows), ["train"] * N_TRAIN + ["test"] * N_TEST)


@pytest.fixture(scope="session")
def pair_codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that are not told apart perfectly, without a split."""
    rows = np.flatnonzero(np.isin(Y_DIGITS, [1, 8]))[:120]
    return write_codes(tmp_path_factory.mktemp("pair") / "codes.h5", rows, names(rows))


@pytest.fixture(scope="session")
def model(split_codes: Path) -> ProbeModel:
    return fit(split_codes, C=0.01)


@pytest.fixture(scope="session")
def saved(model: ProbeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(path)
    return path
