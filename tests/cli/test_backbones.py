"""`cnncodes backbones`: the table of networks."""

from __future__ import annotations

from command_line import run


def test_a_pattern_chooses_among_the_networks() -> None:
    table = run("backbones", "resnet*").stdout
    assert "resnet50" in table
    assert "vgg" not in table
