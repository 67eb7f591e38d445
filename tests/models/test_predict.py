"""Labels of new images: from a model file and from a loaded model, by codes and by images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digit_models import codes_of

from cnncodes import predict
from cnncodes.codes.file import CodesFile
from cnncodes.errors import (
    CnnCodesError,
    ModelFileError,
    SettingError,
)
from cnncodes.extraction.extract import extract
from cnncodes.models.evaluate import evaluate
from cnncodes.models.fit import fit
from cnncodes.models.model import ProbeModel


def test_a_model_file_and_a_loaded_model_give_the_same_labels(
    sample_codes: Path, small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = small_sample / "test" / "Bag"
    model = fit(sample_codes, C=0.01)
    model.save("model.safetensors")
    predictions = predict(images)
    assert [one.path for one in predictions] == sorted(path.name for path in images.iterdir())
    assert sum(one.label == "Bag" for one in predictions) >= 4
    assert predictions == predict(images, model) == ProbeModel.load("model.safetensors").predict_images(images)
    sure = predict(images, model, min_confidence=1.0)
    assert [(one.label, one.guess) for one in sure] == [(None, one.label) for one in predictions]
    with pytest.raises(ModelFileError, match="no such model file"):
        predict(images, "nowhere.safetensors")


WEIGHTS = {"mobilenet_v2": None, "squeezenet1_1": "random"}


def test_images_are_labelled_as_their_codes_are(sample_codes, small_sample, tmp_path):
    model = fit(sample_codes, layers=["layer3", "penultimate"], C=0.01)
    model.save(tmp_path / "model.safetensors")
    loaded = ProbeModel.load(tmp_path / "model.safetensors")
    X, _ = codes_of(sample_codes, ["layer3", "penultimate"], "test")
    with CodesFile.open(sample_codes) as file:
        paths = file.ids[file.rows("test")]
    expected = dict(
        zip(paths.tolist(), zip(model.predict(X), model.predict_proba(X).max(axis=1), strict=True), strict=True)
    )

    (small_sample / "test" / "Bag" / "zero.png").touch()
    try:
        answers = {one.path: one for one in loaded.predict_images(small_sample / "test")}
        result = evaluate(small_sample / "test", loaded)
    finally:
        (small_sample / "test" / "Bag" / "zero.png").unlink()
    assert answers.pop("Bag/zero.png").label is None
    assert {f"test/{path}" for path in answers} == set(expected)
    for path, one in answers.items():
        label, probability = expected[f"test/{path}"]
        assert one.label == label
        assert one.probability == pytest.approx(probability, abs=1e-6)
    assert result.to_dict()["test_accuracy"] == model.scores["test_accuracy"]
    assert any("zero.png" in note for note in result.notes)


def test_image_that_cannot_be_read_has_a_reason(sample_codes, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    (answer,) = fit(sample_codes, C=0.01).predict_images(tmp_path)
    assert (answer.path, answer.label, answer.probability) == ("broken.png", None, None)
    assert (answer.novelty, answer.guess, answer.status) == (None, None, "failed")
    assert answer.reason


def test_below_the_least_confidence_there_is_a_guess_and_no_label(sample_codes, small_sample):
    model = fit(sample_codes, C=0.01)
    answers = model.predict_images(small_sample / "test")
    assert {one.status for one in answers} == {"labelled"}
    assert all(one.label == one.guess for one in answers)
    least = sorted(one.probability for one in answers)[7]
    cautious = model.predict_images(small_sample / "test", min_confidence=least)
    assert [one.guess for one in cautious] == [one.label for one in answers]
    assert [one.probability for one in cautious] == [one.probability for one in answers]
    assert [one.label for one in cautious] == [one.guess if one.probability >= least else None for one in answers]
    assert [one.status for one in cautious].count("unsure") == 7
    with pytest.raises(SettingError, match="from 0 to 1"):
        model.predict_images(small_sample / "test", min_confidence=80)


def test_novelty_of_images_is_that_of_their_codes(sample_codes, small_sample):
    model = fit(sample_codes, C=0.01)
    X, _ = codes_of(sample_codes, "penultimate", "test")
    with CodesFile.open(sample_codes) as file:
        expected = dict(zip(file.ids[file.rows("test")].tolist(), model.novelty(X), strict=True))
    for one in model.predict_images(small_sample / "test"):
        assert one.novelty == pytest.approx(expected[f"test/{one.path}"], abs=0.05)  # a step is 1/31
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    assert model.predict_images(noise)[0].novelty > 0.8


def test_model_without_its_weights_refuses_to_predict(sample_codes, small_sample):
    model = fit(sample_codes, C=0.01)
    model.provenance = replace(model.provenance, weights_sha256="ab" * 32)
    with pytest.raises(CnnCodesError, match="SHA-256"):
        model.predict_images(small_sample / "test")


def test_predicting_and_extracting_at_once_gives_what_one_gives(
    sample_codes: Path, small_sample: Path, tmp_path: Path
) -> None:
    model = fit(sample_codes, C=0.01)

    def predict() -> list[Any]:
        return [(one.path, one.label, one.probability) for one in model.predict_images(small_sample / "test")]

    def write(name: str, backbone: str) -> list[np.ndarray]:
        extract(small_sample / "test", tmp_path / name, backbone=backbone, weights=WEIGHTS[backbone], image_size=64)
        with CodesFile.open(tmp_path / name) as file:
            return [file.codes(layer) for layer in file.layers]

    def torch_now() -> list[Any]:
        module = torch.nn.Module
        return [module.__call__, module.__getattr__, torch.get_num_threads(), torch.get_rng_state().tolist()]

    before = torch_now()
    expected = predict(), write("0.h5", "mobilenet_v2"), write("1.h5", "squeezenet1_1")
    for turn in "ab":
        with ThreadPoolExecutor(4) as pool:
            predicted = [pool.submit(predict) for _ in range(2)]
            written = [pool.submit(write, f"{turn}{name}.h5", name) for name in WEIGHTS]
            assert [one.result() for one in predicted] == [expected[0]] * 2
            for codes, one in zip(expected[1:], written, strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(codes, one.result(), strict=True))
    assert torch_now() == before
