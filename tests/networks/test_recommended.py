"""The recommended networks are there, with the figures and licences that their libraries give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import run

from cnncodes.networks.recommended import LINEAR, RECOMMENDED, Recommendation
from cnncodes.networks.registry import find_network

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"


@pytest.mark.parametrize("row", RECOMMENDED, ids=lambda row: row.name)
def test_a_row_says_what_the_library_says(row: Recommendation) -> None:
    if row.name.startswith("timm:"):
        pytest.importorskip("timm")
    entry = find_network(row.name).weights[row.weights]
    assert row.licence == entry.licence
    if entry.top1 is not None:
        assert row.top1 == round(entry.top1, 1)
        assert row.millions == round((entry.n_params or 0) / 1e6, 1)
    assert (row.measured == LINEAR) == ("SWAG_LINEAR" in row.weights or "dinov2" in row.name)


def test_the_command_prints_the_table() -> None:
    rows = json.loads(run("backbones", "--recommended", "--json").stdout)
    assert [row["name"] for row in rows] == [row.name for row in RECOMMENDED]
    assert "CC-BY-NC-4.0" in run("backbones", "--recommended").stdout
    assert "leave PATTERN out" in run("backbones", "resnet*", "--recommended", code=2).stderr


def test_the_guide_has_the_same_table() -> None:
    lines = re.findall(r"^\| `(\S+)`.*", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in lines if name in {row.name for row in RECOMMENDED}] == [row.name for row in RECOMMENDED]
    text = GUIDE.read_text(encoding="utf-8")
    for row in RECOMMENDED:
        line = next(line for line in text.splitlines() if line.startswith(f"| `{row.name}`"))
        assert all(str(figure) in line for figure in (row.millions, row.top1, row.measured, row.licence, row.weights))
