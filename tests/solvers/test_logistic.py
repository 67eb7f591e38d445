"""The objective of logistic regression and its derivatives, against sums written out and differences."""

from __future__ import annotations

import numpy as np
import pytest
from solver_problems import codes, logistic_objective

from cnncodes.solvers.logistic import LogisticProblem
from cnncodes.solvers.matrix import Rows

C = 0.7


def problem(K: int, *, intercept: bool = True) -> tuple[LogisticProblem, np.ndarray, np.ndarray]:
    X, y = codes(60, 5, K)
    return LogisticProblem(Rows(X), y, K, np.ones(60), intercept), X, y


def uncentred(one: LogisticProblem, W: np.ndarray) -> np.ndarray:
    """The intercept for rows that are not centred."""
    return W[-1] - one.centre @ W[:-1]


@pytest.mark.parametrize("K", [2, 4])
def test_the_objective_is_the_sum_over_the_rows(K):
    one, X, y = problem(K)
    W = np.random.default_rng(0).normal(size=(6, one.k))
    expected = logistic_objective(W[:-1].T, uncentred(one, W), X, y, C)
    assert one.evaluate(W, True).objective(C) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 4])
def test_derivatives_are_those_of_differences(K, intercept):
    one, _, _ = problem(K, intercept=intercept)
    rng = np.random.default_rng(1)
    W, V = rng.normal(size=(2, 6, one.k))
    if not intercept:
        W[-1] = V[-1] = 0.0
    step = 1e-5
    point, ahead, behind = (one.evaluate(W + t * V, True) for t in (0.0, step, -step))
    slope = (ahead.objective(C) - behind.objective(C)) / (2 * step)
    assert (point.gradient(C) * V).sum() == pytest.approx(slope, rel=1e-6)
    bend = (ahead.slope - behind.slope) / (2 * step)
    np.testing.assert_allclose(one.hessian_dot(V, point), bend, rtol=1e-5, atol=1e-6)


def test_the_curvature_of_a_row_is_the_mean_over_the_classes():
    one, X, _ = problem(4)
    W = np.random.default_rng(2).normal(size=(6, 4))
    scores = np.exp(X @ W[:-1] + uncentred(one, W))
    chances = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(one.evaluate(W, True).curvature, (chances * (1 - chances)).mean(axis=1), rtol=1e-9)


def test_the_gram_matrix_is_that_of_centred_rows():
    one, X, _ = problem(3)
    weights = np.random.default_rng(3).random(60)
    centred = X - X.mean(axis=0)
    np.testing.assert_allclose(np.tril(one.gram(weights)), np.tril(centred.T @ (weights[:, None] * centred)), atol=1e-9)
