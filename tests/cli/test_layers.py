"""`cnncodes layers`: the table of the layers of a network."""

from __future__ import annotations

import json

import pytest
from command_line import failed, run


def test_each_layer_has_its_shape_stride_and_length() -> None:
    layers = json.loads(run("layers", "resnet18", "--json").stdout)
    by_name = {row["name"]: row for row in layers}
    assert (by_name["layer3"]["map_shape"], by_name["layer3"]["stride"]) == ([256, 14, 14], 16)
    assert by_name["penultimate"]["n_features"] == 512
    assert "Did you mean 'resnet18'" in failed("layers", "resnet181")


def test_a_network_of_tokens_shows_how_many_there_are_and_their_grid() -> None:
    pytest.importorskip("timm")
    rows = {
        row["name"]: row for row in json.loads(run("layers", "timm:test_vit", "--image-size", "64", "--json").stdout)
    }
    assert (rows["layer4"]["path"], rows["layer4"]["tokens"], rows["layer4"]["grid"]) == ("blocks.5:normed", 17, [4, 4])
    assert (rows["penultimate"]["tokens"], rows["penultimate"]["grid"]) == (None, None)
    assert "grid" in run("layers", "timm:test_vit", "--image-size", "64").stdout
    assert "grid" not in run("layers", "resnet18").stdout
    assert "multiple of its patches of 16 px, not 70 px" in failed("layers", "timm:test_vit3", "--image-size", "70")
