"""Curves of fine-tuning: what they say, how they are drawn, and which files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cnncodes.errors import CnnCodesError, MismatchError
from cnncodes.finetuning.curves import Curves


def point(epoch: int, seconds: float, accuracy: float) -> dict[str, Any]:
    return {"epoch": epoch, "seconds": seconds, "accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05}


def made(scratch: list[float]) -> dict[str, Any]:
    tuned = [point(i, 4.0 + 2 * i, 0.8 + 0.02 * i) for i in range(3)]
    facts = {"first": "layer4", "n_train": 90, "n_answers": 45, "held_out": False, "seed": 0}
    facts |= {"device": "cpu", "clock": "processor", "probe": point(0, 4.0, 0.8)}
    lines = {"tuned": tuned, "scratch": [point(i, 20.0 * i, accuracy) for i, accuracy in enumerate(scratch)]}
    return {**facts, "lines": lines}


def test_saving_is_that_of_the_first_epoch_that_is_as_good_as_the_probe() -> None:
    curves = Curves.from_dict(made([0.1, 0.5, 0.8, 0.7, 0.85]))
    assert curves.seconds_to_probe("scratch") == 40
    assert curves.seconds_to_probe("tuned") == 4
    assert curves.saving == (0.9, True)
    assert curves.answer == "the probe takes 4.0 s to 80.0 %, random weights 40.0 s: 90.0 % of the time is saved"


def test_saving_is_a_bound_where_random_weights_never_get_there() -> None:
    curves = Curves.from_dict(made([0.1, 0.5, 0.75, 0.7]))
    assert curves.seconds_to_probe("scratch") is None
    assert curves.saving == (pytest.approx(1 - 4 / 60), False)
    assert curves.answer == (
        "the probe takes 4.0 s to 80.0 %; from random weights that was not reached within 60.0 s (best 75.0 %): at "
        "least 93.3 % of the time is saved"
    )


def test_nothing_is_saved_where_random_weights_are_faster() -> None:
    curves = Curves.from_dict({**made([0.9]), "probe": point(0, 30.0, 0.8)})
    assert curves.saving == (0, True)
    assert Curves.from_dict({**made([0.1, 0.9]), "probe": point(0, 30.0, 0.8)}).saving == (0, True)


def test_file_holds_all_that_was_saved(tmp_path: Path) -> None:
    curves = Curves.from_dict(made([0.1, 0.5]))
    curves.save(tmp_path / "curves.json")
    loaded = Curves.load(tmp_path / "curves.json")
    assert loaded == curves
    assert json.loads((tmp_path / "curves.json").read_text()) == {"cnncodes-curves": 1, **curves.to_dict()}
    curves.save(tmp_path / "curves.json")
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(CnnCodesError, match="not curves of cnncodes finetune that cnncodes wrote"):
        curves.save(tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.clear(), "holds no curves"),
        (lambda values: values.update({"cnncodes-curves": 2}), "a later version"),
        (lambda values: values.pop("probe"), "probe is missing"),
        (lambda values: values["probe"].update(accuracy=1.5), "probe.accuracy is 1.5, expected a number from 0 to 1"),
        (lambda values: values["lines"]["tuned"][1].update(seconds="1"), r"lines.tuned\[1\].seconds is '1'"),
        (lambda values: values["lines"].pop("scratch"), "lines has no points"),
        (lambda values: values["lines"].update(tuned=[]), "lines has no points"),
        (lambda values: values.update(first="\0"), "expected text without NUL"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path: Path, change: Any, words: str) -> None:
    values = {"cnncodes-curves": 1, **made([0.1, 0.5])}
    change(values)
    (tmp_path / "curves.json").write_text(json.dumps(values))
    with pytest.raises(MismatchError, match=words) as error:
        Curves.load(tmp_path / "curves.json")
    assert str(error.value).startswith(str(tmp_path / "curves.json"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"[]"])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "curves.json").write_bytes(content)
    with pytest.raises(MismatchError, match=r"curves\.json"):
        Curves.load(tmp_path / "curves.json")
    with pytest.raises(CnnCodesError, match="cannot be read"):
        Curves.load(tmp_path)


def test_plot_has_the_probe_and_each_line_with_its_intervals() -> None:
    pytest.importorskip("matplotlib")
    curves = Curves.from_dict(made([0.1, 0.5, 0.7]))
    by_time, by_epoch = curves.plot()
    assert [text.get_text() for text in by_time.get_legend().get_texts()] == [
        "probe, frozen network",
        "fine-tuned from layer4",
        "from random weights",
    ]
    for ax, key in ((by_time, "seconds"), (by_epoch, "epoch")):
        assert list(ax.lines[0].get_ydata()) == [0.8, 0.8]
        for container, points in zip(ax.containers, curves.lines.values(), strict=True):
            line, _, (bars,) = container.lines
            assert list(line.get_xdata()) == [getattr(one, key) for one in points]
            assert list(line.get_ydata()) == [one.accuracy for one in points]
            ends = [[low, high] for (_, low), (_, high) in bars.get_segments()]
            assert ends == [pytest.approx([one.low, one.high]) for one in points]
    assert by_time.get_xlim()[1] > 40
