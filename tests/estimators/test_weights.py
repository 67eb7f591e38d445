"""Weights of images: what is taken, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cnncodes.errors import SettingError
from cnncodes.estimators.weights import image_weights


def test_weights_are_numbers_in_any_form_and_1_by_default() -> None:
    for given in ([2, 0, -1], np.array([2.0, 0, -1]), pd.Series([2, 0, -1], index=[7, 8, 9])):
        assert image_weights(given, 3).tolist() == [2, 0, -1]
    assert image_weights(None, 2).tolist() == [1, 1]
    assert image_weights(0.5, 2).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("wrong", [[1, 2], [1, np.nan, 1], [[1], [1], [1]], ["a"] * 3, (1 for _ in range(3)), np.inf])
def test_what_is_not_a_finite_number_for_each_is_refused(wrong: object) -> None:
    with pytest.raises(SettingError, match="is not one finite number for each of the 3 images"):
        image_weights(wrong, 3)


def test_one_image_must_count() -> None:
    with pytest.raises(SettingError, match="positive for no image"):
        image_weights([0, -1], 2)
