"""Answers to images that a model has not seen: those of the cross-validation where nothing is held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tuned_models import codes_by_torch, staged_images

from cnncodes import ProbeModel, extract, fit
from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.errors import ProbeError
from cnncodes.models.answered import Answered
from cnncodes.models.model_file import digests_of
from cnncodes.pages.answers import ask
from cnncodes.probes.decision_values import softmax
from cnncodes.probes.search import search_C


def test_without_a_split_the_figures_are_those_of_the_cross_validation(hostile: tuple[Path, Path]) -> None:
    model = fit(hostile[1], layers="layer2")
    with CodesFile.open(hostile[1]) as file:
        answers = ask(file, model)
    search = search_C(*load_codes(hostile[1], "layer2", return_X_y=True))
    assert search.C == model.C
    expected = softmax(search.decision, search.temperature).max(axis=1)
    np.testing.assert_allclose(answers.confidence, expected, rtol=0.01)
    assert not answers.held_out
    assert len(answers.rows) == 30
    assert answers.accuracies.accuracy.value == model.scores["cv_accuracy"]
    assert answers.result.neighbour_accuracy == model.scores["neighbour_accuracy"]
    assert ((answers.confidence > 1 / 3) & (answers.confidence <= 1)).all()


def test_a_fine_tuned_model_keeps_its_answers_to_training_images(tuned: tuple[Path, ProbeModel]) -> None:
    path, model = tuned
    with CodesFile.open(path) as file:
        answers = ask(file, model)
    assert answers.rows.tolist() == [*range(5), *range(6, 36)]
    assert answers.result.predicted.tolist() == np.array(model.classes)[np.arange(35) % 3].tolist()
    np.testing.assert_array_equal(answers.confidence, np.linspace(0.4, 0.9, 35))
    assert (answers.held_out, answers.folds) == (False, None)
    assert answers.result.only_seen


def test_a_fine_tuned_model_without_answers_is_not_asked_about_its_training_images(
    tuned: tuple[Path, ProbeModel],
) -> None:
    path, model = tuned
    none = Answered.of(np.zeros((1, 32), np.uint8), np.zeros(1, int), np.ones(1))
    for answered in (None, none):
        with CodesFile.open(path) as file, pytest.raises(ProbeError, match="keeps no answer of another network to"):
            ask(file, replace(model, answered=answered))


def test_a_fine_tuned_model_is_asked_about_new_images_of_a_file(tuned: tuple[Path, ProbeModel], tmp_path: Path) -> None:
    images = staged_images(14)
    new = [row for row in range(42) if row % 14 >= 12]
    extract(images, tmp_path / "more.h5", backbone="staged", precision="fp32")
    model = replace(tuned[1], trained_on=digests_of(sha256_of(tmp_path / "more.h5")[np.setdiff1d(range(42), new)]))
    with CodesFile.open(tmp_path / "more.h5") as file:
        answers = ask(file, model, images=images)
        with pytest.raises(ProbeError, match="give the images instead"):
            ask(file, model)
    decision = model.decision_function(codes_by_torch(model, images)[new])
    assert answers.rows.tolist() == new
    assert answers.held_out
    assert answers.result.predicted.tolist() == np.array(model.classes)[decision.argmax(axis=1)].tolist()
    np.testing.assert_allclose(answers.confidence, softmax(decision, model.temperature).max(axis=1), atol=5e-3)


def sha256_of(path: Path) -> np.ndarray:
    with CodesFile.open(path) as file:
        return file.sha256
