"""Losses of several sets of rows: their derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.solvers.stacked_losses import Hinge, Logistic, Loss

EVERY = None


def hinge_value(loss: Loss, scores: np.ndarray) -> float:
    return float((loss.weights * np.maximum(1 - loss.signs * scores, 0) ** 2).sum())


def logistic_value(loss: Loss, scores: np.ndarray) -> float:
    if scores.shape[1] == 1:
        return float((loss.weights * np.logaddexp(0, -loss.signs * scores)).sum())
    rows = np.logaddexp.reduce(scores, axis=1) - (scores * loss.own).sum(axis=1)
    return float((loss.weights[:, 0] * rows).sum())


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize(("kind", "value"), [(Hinge, hinge_value), (Logistic, logistic_value)])
def test_derivatives_are_those_of_the_loss(kind, value, k):
    rng = np.random.default_rng(0)
    own = np.eye(4)[rng.integers(0, 4, (2, 9))].transpose(0, 2, 1)[:, :k]
    loss = kind(own, rng.uniform(0.5, 2, (2, 1, 9)), np.array([9, 9])[:, None, None])
    scores, change = rng.normal(size=(2, k, 9)), rng.normal(size=(2, k, 9))
    point, small = loss.at(scores), 1e-5
    ahead, behind = value(loss, scores + small * change), value(loss, scores - small * change)
    assert (point.slope * change).sum() == pytest.approx((ahead - behind) / (2 * small), rel=1e-6)
    differences = (loss.at(scores + small * change).slope - loss.at(scores - small * change).slope) / (2 * small)
    np.testing.assert_allclose(point.curve(change, EVERY), differences, atol=1e-5)
    np.testing.assert_array_equal(point.curve(change[:, :, 2:5], slice(2, 5)), point.curve(change, EVERY)[:, :, 2:5])


def test_a_class_is_a_problem_of_its_own_for_the_hinge_only():
    own, ones = np.ones((1, 2, 3)), np.ones((1, 2, 3))
    hinge, logistic = (kind(own, ones[:, :1], np.array([3])[:, None, None]) for kind in (Hinge, Logistic))
    assert hinge.dot(ones, 2 * ones).tolist() == [[[6.0], [6.0]]]
    assert logistic.dot(ones, 2 * ones).tolist() == [[[12.0]]]


def test_sure_answers_keep_their_small_numbers():
    own = np.array([[[1.0], [0.0], [0.0]]])
    loss = Logistic(own, np.ones((1, 1, 1)), np.ones((1, 1, 1)))
    point = loss.at(np.array([[[100.0], [0.0], [1.0]]]))
    expected = np.exp(-100.0) * np.array([-(1 + np.e), 1.0, np.e])
    np.testing.assert_allclose(point.slope[0, :, 0], expected, rtol=1e-12)
