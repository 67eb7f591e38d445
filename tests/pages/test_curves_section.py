"""The section of a report on fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnncodes.finetuning.curves import Curves, Point
from cnncodes.pages.curves_section import curves_section, load_curves

pytest.importorskip("matplotlib")


def make_curves(first: str = "layer4") -> Curves:
    def point(epoch: int, seconds: float, accuracy: float) -> Point:
        return Point(epoch=epoch, seconds=seconds, accuracy=accuracy, low=accuracy - 0.1, high=accuracy + 0.1)

    lines = {"tuned": (point(0, 2.0, 0.7), point(1, 4.0, 0.8)), "scratch": (point(0, 0.0, 0.1), point(4, 40.0, 0.75))}
    facts = {"n_train": 60, "n_answers": 30, "held_out": True, "seed": 0, "device": "cpu", "clock": "wall"}
    return Curves(first=first, probe=point(0, 2.0, 0.7), lines=lines, **facts)


def test_section_has_the_plot_the_saving_and_where_lines_end() -> None:
    values = curves_section(make_curves("<b>layer4"))
    assert values["tuning_text"] == (
        "Each training saw the same 60 images, and answered the same 30 held-out images after every epoch. The probe "
        "takes 2.0 s to 70.0 %, random weights 40.0 s: 95.0 % of the time is saved."
    )
    assert [(row["name"], row["end"].epoch, row["end"].seconds) for row in values["tuning_rows"]] == [
        ("probe, frozen network", 0, 2.0),
        ("fine-tuned from <b>layer4", 1, 4.0),
        ("from random weights", 4, 40.0),
    ]
    plot = values["tuning_plot"]
    assert plot.startswith('<svg role="img"')
    assert "seconds (wall)" in plot
    assert ">epochs<" in plot
    assert "&lt;b&gt;layer4" in plot


def test_report_without_curves_has_no_section() -> None:
    assert curves_section(None)["tuning_plot"] == ""
    assert load_curves(None) is None


def test_curves_are_given_or_read(tmp_path: Path) -> None:
    curves = make_curves()
    assert load_curves(curves) is curves
    curves.save(tmp_path / "curves.json")
    assert load_curves(tmp_path / "curves.json") == curves
