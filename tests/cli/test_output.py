"""What the commands show: on any terminal, and where it cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run


def test_output_that_cannot_be_written_is_one_line(there: Path) -> None:
    for environment, words, code in (
        ({"PYTHONIOENCODING": "ascii"}, ["compare", "--clf", "svm", "--layer", "layer1"], 0),
        ({"PYTHONIOENCODING": "cp1252"}, ["--help"], 0),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cnncodes", *words],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["info"], ["info", "--json"], ["backbones", "--json"], ["--help"]])
def test_standard_output_that_is_full_is_named(words: list[str], there: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "cnncodes", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.parametrize("command", ["compare", "advise"])
@pytest.mark.parametrize(("place", "reason"), [("nosuch/x.png", "no such folder"), ("x.foo", "is .png, .svg or .pdf")])
def test_a_plot_that_cannot_be_written_is_refused_before_the_work(
    sample_codes: Path, tmp_path: Path, monkeypatch, command: str, place: str, reason: str
) -> None:
    monkeypatch.setattr(
        "cnncodes.probes.protocol.search_C", lambda *args, **kwargs: pytest.fail("it has begun to work")
    )
    result = run(command, sample_codes, "--plot", tmp_path / place, code=1)
    assert reason in result.stderr
