"""`cnncodes layers`: the table of the layers of a network."""

from __future__ import annotations

import json

from command_line import failed, run


def test_each_layer_has_its_shape_stride_and_length() -> None:
    layers = json.loads(run("layers", "resnet18", "--json").stdout)
    by_name = {row["name"]: row for row in layers}
    assert (by_name["layer3"]["map_shape"], by_name["layer3"]["stride"]) == ([256, 14, 14], 16)
    assert by_name["penultimate"]["n_features"] == 512
    assert "Did you mean 'resnet18'" in failed("layers", "resnet181")
