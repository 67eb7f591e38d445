"""Probabilities against scikit-learn, and temperatures against those that made the labels."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics

from cnncodes.probes.calibration import fit_temperature, log_loss
from cnncodes.probes.decision_values import softmax


@pytest.mark.parametrize("n_classes", [2, 6])
def test_temperature_that_made_the_labels_is_found(n_classes):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 1 if n_classes == 2 else n_classes))
    chances = softmax(scores, 0.4)
    truth = (rng.random((len(scores), 1)) > chances.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(scores, truth) == pytest.approx(0.4, rel=0.05)


@pytest.mark.parametrize("unit", [1e-3, 50.0])
def test_temperature_follows_the_unit_of_the_scores(unit):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(500, 3))
    truth = (scores + rng.normal(size=scores.shape)).argmax(axis=1)
    assert fit_temperature(unit * scores, truth) == pytest.approx(unit * fit_temperature(scores, truth), rel=1e-3)


def test_answers_that_are_all_right_are_as_certain_as_the_rule_of_succession_says():
    n = 40
    truth = np.arange(n) % 2
    scores = np.where(truth == 1, 1.0, -1.0)[:, None]
    right = softmax(scores, fit_temperature(scores, truth))[np.arange(n), truth]
    np.testing.assert_allclose(right, 1 - 1 / (n + 2), atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_log_loss_is_that_of_scikit_learn(n_classes):
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(50, 1 if n_classes == 2 else n_classes)), np.arange(50) % n_classes
    assert log_loss(scores, truth, 0.7) == pytest.approx(sklearn.metrics.log_loss(truth, softmax(scores, 0.7)))
