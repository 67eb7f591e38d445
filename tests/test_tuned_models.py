"""A fine-tuned model is a model like any other: every command that takes one, on real images and weights."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import failed, run
from PIL import Image
from sklearn.datasets import load_sample_image

from cnncodes import ProbeModel
from cnncodes.system.shipped import SAMPLE, shipped_path

CLASSES = ("Bag", "Sandal", "Shirt", "Trouser")
SPLITS = {"train": 16, "test": 10}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory, with images of four classes in two splits, and crops of a photograph."""
    monkeypatch.chdir(tmp_path)
    for split, count in SPLITS.items():
        for name in CLASSES:
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for path in sorted((shipped_path(SAMPLE) / split / name).iterdir())[:count]:
                shutil.copy(path, folder)
    (tmp_path / "foreign").mkdir()
    for i, left in enumerate(range(0, 400, 40)):
        Image.fromarray(load_sample_image("china.jpg")[100:300, left : left + 200]).save(f"foreign/{i}.png")


@pytest.mark.slow
@pytest.mark.usefixtures("photos")
def test_every_command_takes_a_fine_tuned_model() -> None:
    small = ("--image-size", "64", "--layer", "penultimate", "--precision", "fp32")
    run("extract", "photos", "--map", "layer3", *small)
    run("extract", "photos", *small, "-o", "plain.h5")
    run("finetune", "--epochs", "2", "--cv", "2", "--always", "-o", "tuned.safetensors")
    tuned = ("--model", "tuned.safetensors")

    facts = json.loads(run("info", "tuned.safetensors", "--json").stdout)
    assert (facts["tuned"]["first"], facts["tuned"]["below"]) == ("layer4", "layer3")
    assert facts["precision"] == "fp32"

    by_codes = json.loads(run("evaluate", *tuned, "--json").stdout)
    by_images = json.loads(run("evaluate", "photos/test", *tuned, "--no-guard", "--json").stdout)
    whole = json.loads(run("evaluate", *tuned, "--no-guard", "--json").stdout)
    assert whole["confusion"] == by_images["confusion"]
    assert by_codes["test_accuracy"] == facts["scores"]["test_accuracy"]
    assert (by_codes["tuned_from"], by_codes["n"], by_codes["n_seen"]) == ("layer4", facts["scores"]["n_test"], 0)
    assert "svm on penultimate, C = 1, fine-tuned from layer4 on" in run("evaluate", *tuned).stdout
    line = failed("evaluate", "plain.h5", *tuned)
    assert "give the images instead, or let the file keep the maps of layer3: `cnncodes extract … --map layer3`" in line
    every = json.loads(run("evaluate", "photos", *tuned, "--json").stdout)
    assert (every["n_seen"], every["n"]) == (64, 40)  # images that it was trained on are no new ones

    comparison = json.loads(run("compare", "plain.h5", *tuned, "--clf", "svm", "--repeats", "1", "--json").stdout)
    (row,) = (row for row in comparison["rows"] if row["clf"] == "tuned")
    assert row["cv_accuracy"] == facts["scores"]["cv_accuracy"]
    assert (row["n"], row["from"], row["model"], row["recommended"]) == (64, "layer4", "tuned.safetensors", False)

    page = json.loads(run("report", *tuned, "--no-advice", "--no-audit", "--json").stdout)
    assert (page["accuracy"], page["held_out"]) == (by_codes["test_accuracy"], True)
    line = failed("report", "plain.h5", *tuned, "--no-advice", "--no-audit", "-o", "plain.html")
    assert "give the images instead" in line
    words = ("--images", "photos", "--no-advice", "--no-audit", "-o", "plain.html", "--json")
    assert json.loads(run("report", "plain.h5", *tuned, *words).stdout)["accuracy"] == page["accuracy"]
    text = Path("report.html").read_text(encoding="utf-8")
    assert "cnncodes finetune codes.h5 --from layer4 --clf svm --scale shrunk --cv 2 --seed 0 --always" in text

    known, foreign = (
        [float(row["novelty"]) for row in csv.DictReader(run("predict", folder, *tuned).stdout.splitlines())]
        for folder in ("photos/test", "foreign")
    )
    assert np.mean(np.array(known) >= 0.95) <= 0.15
    assert np.median(foreign) > 0.9 > np.min(foreign) > np.median(known)
    assert repr(ProbeModel.load("tuned.safetensors")).startswith(
        "ProbeModel('svm' on 'penultimate' of 'mobilenet_v2', fine-tuned from 'layer4', 4 classes, "
    )
