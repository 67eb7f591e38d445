"""Where a page came from: its commands make it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from report_parts import commands_of

from cnncodes.cli.main import main


def test_the_commands_of_a_page_make_it_again(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(words: list[str]) -> None:
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    images = str(small_sample / "train")
    first, again = tmp_path / "first", tmp_path / "again"
    for folder in (first, again):
        folder.mkdir()
    monkeypatch.chdir(first)
    extraction = "--dtype float32 --views flip --exact-decode --image-size 96 --pool max"
    call(["extract", images, *extraction.split(" ")])
    probe = "--layer layer3 -C 5 --scale l2 --clf logreg --class-weight balanced --cv 3"
    call(["fit", *probe.split(" "), "-o", "it's.safetensors"])
    asked = "--seed 3 --points 20 --no-audit --no-advice"
    call(["report", *asked.split(" "), "--model", "it's.safetensors", "--images", images])
    text = (first / "report.html").read_text(encoding="utf-8")
    monkeypatch.chdir(again)
    for words in commands_of(text):
        assert words[0] == "cnncodes"
        call([images if word == "IMAGES" else word for word in words[1:]])
    assert (again / "report.html").read_text(encoding="utf-8") == text
    assert "fingerprint of its settings" in text
