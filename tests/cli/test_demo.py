"""`cnncodes demo`: the whole way on the sample, up to the first error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import run


def test_the_demo_stops_at_the_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/codes.h5").write_text("garbage")
    result = run("demo", "--folder", "there", code=1)
    assert "[1/5]" in result.stdout
    assert "[2/5]" not in result.stdout
    assert "no folder can be made there" in run("demo", "--folder", "there/codes.h5", code=1).stderr


@pytest.mark.slow
def test_the_demo_works_from_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = run("demo").stdout
    for name in ("extract", "fit", "evaluate", "predict", "compare"):
        assert f"$ cnncodes {name} " in output
    accuracies = dict(re.findall(r"^(layer\d|penultimate)[ *]+svm.*? (\d+\.\d) %", output, re.MULTILINE))
    assert accuracies.keys() == {"layer1", "layer2", "layer3", "penultimate"}
    assert 75 < float(accuracies["layer3"]) < 95
    assert (
        (tmp_path / "cnncodes-demo" / "predictions.csv")
        .read_text()
        .startswith("path,label,probability,novelty,guess,status\n")
    )
