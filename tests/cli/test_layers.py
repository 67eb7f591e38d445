"""`cnncodes layers`: the table of the layers of a network."""

from __future__ import annotations

import json

import pytest
from command_line import failed, run
from tiny_network import UNCROPPED, Staged

from cnncodes import register_backbone


def test_each_layer_has_its_shape_stride_and_length() -> None:
    layers = json.loads(run("layers", "resnet18", "--json").stdout)
    by_name = {row["name"]: row for row in layers}
    assert (by_name["layer3"]["map_shape"], by_name["layer3"]["stride"]) == ([256, 14, 14], 16)
    assert by_name["penultimate"]["n_features"] == 512
    assert "Did you mean 'resnet18'" in failed("layers", "resnet181")


def test_on_request_an_epoch_is_timed_for_each_part_and_for_the_whole_network() -> None:
    register_backbone("staged", Staged, preprocessing=UNCROPPED, overwrite=True)
    plain = json.loads(run("layers", "staged", "--json").stdout)
    timed = json.loads(run("layers", "staged", "--time", "--json").stdout)
    assert [{name: row[name] for name in plain[0]} for row in timed[:-1]] == plain
    assert (timed[-1]["name"], timed[-1]["trains"]) == ("all", sum(p.numel() for p in Staged().parameters()) - 85)
    seconds = {row["name"]: row["s"] for row in timed if row["s"] is not None}
    assert list(seconds) == [*(f"layer{i}" for i in range(1, 5)), "penultimate", "all"]
    assert all(0 <= value < 60 for value in seconds.values())


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
