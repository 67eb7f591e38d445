"""A file that answers otherwise than the model is found out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncodes.errors import ExportError
from cnncodes.exporting import parity as module
from cnncodes.exporting.parity import Parity

FINE = Parity(
    native_difference=9e-6,
    resized_difference=9e-4,
    rounding=0.0,
    novelty_difference=0.02,
    n_images=10,
    n_same_labels=10,
)


def test_small_differences_are_allowed():
    FINE.require("float32", 0.01)
    replace(FINE, novelty_difference=None).require("float32", 1)
    replace(FINE, native_difference=3e-5, rounding=3e-5).require("float32", 0.01)
    replace(FINE, native_difference=0.01, resized_difference=0.04).require("float16", 0.01)


@pytest.mark.parametrize(
    ("dtype", "differences"),
    [
        ("float32", {"native_difference": 2e-5}),
        ("float32", {"native_difference": np.nan}),
        ("float32", {"resized_difference": 2e-3}),
        ("float32", {"novelty_difference": 0.03}),
        ("float32", {"native_difference": 5e-5, "rounding": 3e-5}),
        ("float16", {"resized_difference": 0.06}),
    ],
)
def test_larger_ones_are_an_error(dtype, differences):
    with pytest.raises(ExportError, match=r"answers otherwise than the model, so nothing was written: .*allowed: "):
        replace(FINE, **differences).require(dtype, 0.01)


def test_images_have_many_sizes_and_some_are_not_resized(model):
    from cnncodes.networks.preprocessing import Preprocessing

    other = module._other_images()
    assert len({image.shape for image in other}) == len(other) >= 12
    assert {min(image.shape[:2]) for image in other} >= {1, 28}
    for mode, side in (("crop", 40), ("pad", 32), ("squash", 32)):
        prepared = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), mode)
        native = module._native_images(prepared)
        assert {image.shape for image in native} == {(side, side, 3)}
        assert len({image.tobytes() for image in native}) == len(native)
