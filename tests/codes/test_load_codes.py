"""Codes and labels as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from plain_codes import CODES

from cnncodes.codes.load_codes import load_codes


def test_load_codes_gives_codes_and_labels(path: Path) -> None:
    X, y = load_codes(path, "layer1", split="train", return_X_y=True)
    np.testing.assert_array_equal(X, CODES["layer1"][[0, 1, 2, 3, 4, 7, 8, 9]])
    assert y.tolist() == ["rosé"] * 8
    assert load_codes(path, ["layer1", "penultimate"]).shape == (10, 8)
