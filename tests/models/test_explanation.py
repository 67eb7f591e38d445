"""The picture of an explanation: its colours, and the files that it replaces."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cnncodes.errors import CnnCodesError
from cnncodes.models.explanation import Explanation


def explanation(**maps) -> Explanation:
    picture = np.full((64, 64, 3), 128, np.uint8)
    return Explanation(
        "rose.jpg", "rose", 0.5, -1.0, {name: np.array(one, float) for name, one in maps.items()}, picture
    )


def test_red_speaks_for_a_class_and_blue_against_it():
    one = explanation(layer4=[[5.0, 1.0], [1.0, -3.0]])  # with the constant: 4, 0, 0, -4
    pixels = np.array(one.draw()).astype(int)
    assert pixels[2, 2, 0] > pixels[2, 2, 2] + 80
    assert pixels[-3, -3, 2] > pixels[-3, -3, 0] + 60
    assert np.abs(np.array(one.heatmap())[[2, -3], [2, -3]] - [4, -4]).max() < 1e-6


def test_layers_are_added_at_the_size_of_the_picture():
    one = explanation(layer3=np.full((4, 4), 2.0), layer4=np.full((2, 2), 0.5))
    assert np.allclose(one.heatmap(), np.full((64, 64), 1.5))


def test_a_map_without_evidence_leaves_the_picture_grey():
    assert (np.array(explanation(layer4=np.ones((2, 2))).draw()) == 128).all()


def test_only_its_own_pictures_are_replaced(tmp_path):
    path = tmp_path / "rose.png"
    one = explanation(layer4=[[5.0, 1.0], [1.0, -3.0]])
    one.save(path)
    one.save(path)
    with Image.open(path) as image:
        assert np.array_equal(np.array(image), np.array(one.draw()))
    Image.new("RGB", (64, 64), "red").save(path)
    with pytest.raises(CnnCodesError, match="not a picture of an explanation that cnncodes wrote"):
        one.save(path)
    one.save(path, overwrite=True)
