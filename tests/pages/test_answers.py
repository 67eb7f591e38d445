"""Answers to images that a model has not seen: those of the cross-validation where nothing is held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnncodes import fit
from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
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
