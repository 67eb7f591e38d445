"""Curves of fine-tuning on the command line: files, lines of text, and what is refused before the work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import failed, run
from PIL import Image
from tiny_network import UNCROPPED, Staged

from cnncodes import register_backbone
from cnncodes.finetuning.curves import Curves

OPTIONS = ("--from", "layer3", "--epochs", 1, "--backbone", "staged", "--cv", 2)


@pytest.fixture
def stripes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with images of two classes."""
    register_backbone("staged", Staged, preprocessing=UNCROPPED, overwrite=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for label, wave in (("across", y), ("down", x)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(8):
            pixels = 128 + 50 * np.sin(wave * 0.8)[..., None] + rng.normal(0, 20, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "photos" / label / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_curves_are_drawn_kept_and_shown_in_a_report(stripes: Path) -> None:
    result = run("finetune", "photos", *OPTIONS, "--curves", "curves.svg", "--curves", "curves.json")
    assert "fine-tuned from layer3" in result.stdout
    assert "of the time is saved" in result.stdout
    assert "8 images of the first fold" in result.stdout
    curves = Curves.load("curves.json")
    for name, end in curves.summary:
        assert f"{name:<25} {100 * end.accuracy:.1f} %" in result.stdout
    assert "from random weights" in Path("curves.svg").read_text()
    assert sorted(path.name for path in stripes.iterdir()) == [
        *("curves.json", "curves.svg", "model.safetensors", "photos")
    ]
    run("extract", "photos", "--backbone", "staged")
    run("report", "--curves", "curves.json", "--no-advice", "--no-audit")
    page = Path("report.html").read_text(encoding="utf-8")
    assert "What fine-tuning came to" in page
    assert "--curves FILE.json" in page
    assert "model.safetensors: is no JSON" in failed("report", "--curves", "model.safetensors")
    assert "is what the command reads" in failed("report", "--curves", "curves.json", "-o", "curves.json", "--force")


@pytest.mark.slow
def test_scratch_alone_says_what_is_saved_and_keeps_no_file(stripes: Path) -> None:
    figures = json.loads(run("finetune", "photos", *OPTIONS, "--scratch", "--json").stdout)
    assert list(figures["curves"]["lines"]) == ["tuned", "all", "scratch"]
    assert 0 <= figures["saving"] <= 1
    assert sorted(path.name for path in stripes.iterdir()) == ["model.safetensors", "photos"]


def test_files_that_cannot_be_written_are_refused_before_the_work(stripes: Path, monkeypatch) -> None:
    monkeypatch.setattr("cnncodes.finetuning.finetune.finetune", lambda *args, **options: pytest.fail("too late"))
    Path("mine.json").write_text("{}")
    assert "not curves of cnncodes finetune" in failed("finetune", "photos", *OPTIONS, "--curves", "mine.json")
    assert "a plot is .png, .svg or .pdf" in failed("finetune", "photos", *OPTIONS, "--curves", "curves.txt")
    assert Path("mine.json").read_text() == "{}"


@pytest.mark.slow
def test_run_that_is_stopped_while_it_draws_keeps_what_was_trained(stripes: Path, monkeypatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cnncodes.finetuning.finetune.measure_curves", interrupt)
        result = run("finetune", "photos", *OPTIONS, "--always", "--curves", "curves.json", code=130)
    assert "the same command goes on from there" in result.stderr
    assert not Path("curves.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr("cnncodes.finetuning.training.Training._train", lambda *args: pytest.fail("trained again"))
        run("finetune", "photos", *OPTIONS, "--always")
