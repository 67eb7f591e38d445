"""The command finetune: a model file that predict, evaluate and info take."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import failed, run
from PIL import Image
from tiny_network import UNCROPPED, Staged

from cnncodes import register_backbone
from cnncodes.cli.finetune import _show_step
from cnncodes.finetuning import out_of_fold, training
from cnncodes.finetuning.finetune import finetune
from cnncodes.finetuning.training import Epoch

OPTIONS = ("--from", "layer3", "--epochs", 1, "--backbone", "staged", "--lr", "0.003")


@pytest.fixture
def stripes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with images of two classes."""
    register_backbone("staged", Staged, preprocessing=UNCROPPED, overwrite=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for label, wave in (("across", y), ("down", x)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            pixels = 128 + 50 * np.sin(wave * 0.8)[..., None] + rng.normal(0, 20, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "photos" / label / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_model_is_saved_and_the_other_commands_take_it(stripes):
    result = run("finetune", "photos", *OPTIONS, "--always")
    assert "saved                     model.safetensors" in result.stdout
    assert "fine-tuning from layer3" in result.stdout
    assert "C, and how far to go from the probe, were chosen on the same folds" in result.stdout
    assert sorted(path.name for path in stripes.iterdir()) == ["model.safetensors", "photos"]
    facts = json.loads(run("info", "model.safetensors", "--json").stdout)
    assert (facts["tuned"]["first"], facts["tuned"]["below"], facts["tuned"]["epochs"]) == ("layer3", "layer2", 1)
    assert facts["precision"] == "fp32"
    assert run("predict", "photos").stdout.splitlines()[1].startswith("across/0.png,")
    scored = json.loads(run("evaluate", "photos", "--json").stdout)
    assert scored["n_seen"] == scored["n"] == 24


def test_json_has_the_gain_with_its_interval(stripes):
    figures = json.loads(run("finetune", "photos", *OPTIONS, "--json").stdout)
    low, high = figures["gain_interval"]
    assert low <= figures["gain"] <= high
    assert figures["finetuned"] or not figures["pays"]
    assert figures["model"] == "model.safetensors"
    assert figures["from"] == "layer3"
    assert 0 <= figures["probe_accuracy"] <= 1


def test_command_and_function_give_the_same_file(stripes):
    run("finetune", "photos", *OPTIONS, "--always", "-o", "one.safetensors")
    result = finetune("photos", train_from="layer3", epochs=1, backbone="staged", lr=0.003, always=True)
    result.model.save("other.safetensors")
    assert Path("one.safetensors").read_bytes() == Path("other.safetensors").read_bytes()


def test_codes_need_their_images(stripes):
    run("extract", "photos", "--backbone", "staged")
    error = failed("finetune", "codes.h5", "--from", "layer3")
    assert "name the images that it was made from (--images photos/), or let the file keep them: " in error
    assert "--map layer2" in error
    run("finetune", "codes.h5", "--images", "photos", "--from", "layer3", "--epochs", 1)


def test_maps_in_the_codes_file_take_the_place_of_images(stripes, caplog):
    run("extract", "photos", "--backbone", "staged", "--map", "layer2")
    shutil.move("photos", "elsewhere")
    run("finetune", "codes.h5", "--from", "layer3", "--epochs", 1, "--always")
    assert "are computed from the images" not in caplog.text
    assert len(run("predict", "elsewhere").stdout.splitlines()) == 25
    assert "--images photos/" in failed("finetune", "codes.h5", "--from", "all", "--force")


def test_what_another_program_wrote_is_not_replaced(stripes):
    Path("mine.txt").write_text("precious")
    assert "overwrite it with --force" in failed("finetune", "photos", "-o", "mine.txt")
    assert Path("mine.txt").read_text() == "precious"


def test_what_another_program_wrote_in_place_of_the_state_is_found_before_the_work(stripes, monkeypatch):
    state = Path("model.safetensors.state")
    state.write_text("precious")
    with monkeypatch.context() as patch:
        patch.setattr("cnncodes.finetuning.finetune.finetune", lambda *args, **options: pytest.fail("too late"))
        assert "not a state of fine-tuning" in failed("finetune", "photos", *OPTIONS)
    assert state.read_text() == "precious"
    run("finetune", "photos", *OPTIONS, "--force")
    assert not state.exists()


def test_state_of_a_run_with_other_options_is_begun_anew(stripes, monkeypatch, caplog):
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cnncodes.finetuning.finetune.train_on_all", interrupt)
        run("finetune", "photos", *OPTIONS, "--always", code=130)
    other = ("--lr", "0.002", "--always")
    run("finetune", "photos", *OPTIONS, *other)
    assert "model.safetensors.state is of another run, and is begun anew" in caplog.text
    run("finetune", "photos", *OPTIONS, *other, "-o", "fresh.safetensors")
    assert Path("model.safetensors").read_bytes() == Path("fresh.safetensors").read_bytes()


def test_stopped_run_saves_what_there_is_and_goes_on(stripes, monkeypatch):
    train = training.Training._train

    def stop(one: training.Training, rows: np.ndarray, views: np.ndarray) -> float:
        if len(one.rows) == 24 and one.step == 1:
            raise KeyboardInterrupt
        return train(one, rows, views)

    options = (*OPTIONS, "--always", "--epochs", 2)
    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "_train", stop)
        result = run("finetune", "photos", *options, code=130)
    assert "the training on all images was stopped after 1 complete epochs" in result.stderr
    assert "model.safetensors.state: the same command goes on from there, to the end" in result.stderr
    assert "saved                     model.safetensors" in result.stdout
    assert len(run("predict", "photos").stdout.splitlines()) == 25
    run("finetune", "photos", *options)
    assert not Path("model.safetensors.state").exists()
    run("finetune", "photos", *options, "-o", "fresh.safetensors")
    assert Path("model.safetensors").read_bytes() == Path("fresh.safetensors").read_bytes()


def test_bar_shows_the_loss():
    words: list[str] = []
    bar = SimpleNamespace(say=words.append)
    _show_step(bar, "fold 1 of 3", Epoch(2, 0.4567))
    _show_step(bar, "all images", Epoch(1, float("nan")))
    assert words == ["fold 1 of 3: epoch 2, loss 0.457", "all images: epoch 1"]


def test_parts_are_named_by_repeated_options(stripes):
    names = ("--unfreeze", "layer2", "--freeze", "layer4", "--freeze", "*.1")
    figures = json.loads(run("finetune", "photos", *OPTIONS, *names, "--always", "--json").stdout)
    assert figures["from"] == "layer3 with layer2 without layer4, *.1"
    assert "Did you mean 'layer4'" in failed("finetune", "photos", *OPTIONS, "--freeze", "layer5")


def test_interrupted_run_says_where_it_goes_on(stripes, monkeypatch):
    train = out_of_fold.train_on_all

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnncodes.finetuning.finetune.train_on_all", interrupt)
    result = run("finetune", "photos", *OPTIONS, "--always", code=130)
    assert "no model is saved yet; model.safetensors.state: the same command goes on from there" in result.stderr
    monkeypatch.setattr("cnncodes.finetuning.finetune.train_on_all", train)
    run("finetune", "photos", *OPTIONS, "--always")
    assert not Path("model.safetensors.state").exists()


def changed(path: Path) -> int:
    """When a file was last written; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="other systems have other signals")
def test_process_that_is_killed_again_and_again_gives_the_same_model(stripes):
    """The system ends it soon after each change of the state, in whatever it does then."""
    words = ["finetune", "codes.h5", "--from", "layer4", "--epochs", "2", "--always", "--batch-size", "8"]
    run("extract", "photos", "--image-size", 64, "--map", "layer3", "--layer", "penultimate")
    run(*words, "-o", "whole.safetensors")
    model, state, kills = Path("model.safetensors"), Path("model.safetensors.state"), 0
    program = [sys.executable, "-m", "cnncodes", *words]
    while not model.exists():
        before = changed(state)
        process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and changed(state) == before:
            time.sleep(0.01)
        if process.poll() is None:
            time.sleep(0.03 * kills)
            process.kill()
            kills += 1
        process.wait()
    assert kills >= 2
    assert model.read_bytes() == Path("whole.safetensors").read_bytes()
