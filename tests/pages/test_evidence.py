"""What speaks for a wrong answer, in the report."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from cnncodes import extract, fit
from cnncodes.images.loading import load_images
from cnncodes.pages.answers import ask
from cnncodes.pages.evidence import SIDE, evidence
from cnncodes.pages.report import report
from cnncodes.probes.protocol import TrainingData


def pixels(uri: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).convert("RGB")).astype(float)


def test_held_out_images_show_what_speaks_for_what_they_were_called(sample_codes: Path, small_sample: Path) -> None:
    model = fit(sample_codes, layers="layer1", C=1e-6)
    images = load_images(small_sample)
    with TrainingData.open(sample_codes) as data:
        answers = ask(data, model)
        pictures, notes = evidence(data, model, answers, images, answers.mistakes)
        ids = data.file.ids[answers.rows[answers.mistakes]].tolist()
    assert answers.held_out
    assert notes == []
    assert set(pictures) == set(ids)
    for name, label in zip(ids, answers.result.predicted[answers.mistakes].tolist(), strict=True):
        (one,) = model.explain(images.take([images.row_of[name]]), label=label, against=name.split("/")[1])
        assert one.decision > 0
        expected = np.asarray(one.draw().resize((SIDE, SIDE)), float)
        assert np.abs(pixels(pictures[name]) - expected).mean() < 6  # of 255, by the compression


def test_the_classifier_of_the_fold_is_asked(small_sample: Path, tmp_path: Path) -> None:
    """The one that is fitted to all images has learned a wrong label, and would speak for it."""
    folder, codes = tmp_path / "images", tmp_path / "codes.h5"
    shutil.copytree(small_sample / "train", folder)
    next((folder / "Bag").iterdir()).rename(folder / "Trouser" / "bag.png")
    extract(folder, codes, layers=["penultimate"], precision="fp32")
    images, model = load_images(folder), fit(codes, C=100.0)
    with TrainingData.open(codes) as data:
        answers = ask(data, model)
        assert not answers.held_out
        name = "Trouser/bag.png"
        (position,) = np.flatnonzero(data.file.ids[answers.rows] == name)
        assert position in answers.mistakes
        pictures, _ = evidence(data, model, answers, images, np.array([position]))
    called = str(answers.result.predicted[position])
    (of_all,) = model.explain(images.take([images.row_of[name]]), label=called, against="Trouser")
    assert of_all.decision < 0
    drawn = pixels(pictures[name])
    assert drawn[..., 0].mean() > np.asarray(of_all.draw(), float)[..., 0].mean() + 5  # more red


def test_the_report_shows_evidence_where_images_are_given(sample_codes: Path, small_sample: Path) -> None:
    model = fit(sample_codes, layers="layer1", C=1e-6)
    options = {"model": model, "advice": False, "audit": False}
    page = report(sample_codes, images=small_sample, **options).html
    shown = re.findall(r'<img class="evidence" src="data:image/webp[^"]*" alt="What speaks for (\w+)', page)
    called = re.findall(r"but called <b>(\w+)</b>", page)
    assert shown == called
    assert len(shown) >= 1
    for without in ({}, {"images": small_sample, "explain": False}):
        assert 'class="evidence"' not in report(sample_codes, **without, **options).html
