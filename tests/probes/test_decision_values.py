"""Which class wins, and how probable it is, against scipy."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_softmax
from scipy.special import softmax as scipy_softmax

from cnncodes.probes.decision_values import softmax, two_sided, winner


def test_the_winner_has_the_largest_value_and_of_two_classes_the_sign_decides():
    assert winner(np.array([[0.1, 3.0, -2.0], [5.0, 5.0, 4.0]])).tolist() == [1, 0]
    assert winner(np.array([[0.2], [0.0], [-0.1]])).tolist() == [1, 0, 0]


def test_probabilities_have_the_bits_that_scipy_gives_them():
    rng = np.random.default_rng(1)
    for shape in ((200, 1), (200, 2), (200, 37)):
        scores = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4, (len(rng.normal(size=shape)), 1))
        expected = np.exp(log_softmax(two_sided(scores) / 0.7, axis=1))
        np.testing.assert_array_equal(softmax(scores, 0.7), expected)


def test_softmax_is_that_of_scipy_and_the_logistic_function_for_two_classes():
    scores = np.random.default_rng(0).normal(size=(20, 4))
    np.testing.assert_allclose(softmax(scores, 0.3), scipy_softmax(scores / 0.3, axis=1), rtol=1e-12)
    pairs = softmax(scores[:, :1], 0.3)
    np.testing.assert_allclose(pairs[:, 1], expit(scores[:, 0] / 0.3), rtol=1e-12)
    np.testing.assert_allclose(pairs.sum(axis=1), 1)


def test_softmax_of_extreme_values_stays_finite():
    for scores in (np.array([[1e6, -1e6, 0.0]]), np.array([[1e6]]), np.array([[-1e6]])):
        chances = softmax(scores, 1e-3)
        assert np.isfinite(chances).all()
        assert chances.sum() == 1
