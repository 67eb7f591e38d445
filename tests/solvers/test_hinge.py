"""The problems of the squared hinge loss: their classes, their memory, and the best step along a line."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from cnncodes.solvers.hinge import HingeProblem, classes_at_once, line_search
from cnncodes.solvers.matrix import Rows


def test_the_tolerance_shrinks_with_the_smaller_side():
    signs = np.array([[1, 1], [-1, 1], [-1, 1], [-1, 1]], np.int8)
    problem = HingeProblem(Rows(np.eye(4)), signs, np.ones((4, 1)))
    assert problem.balance().tolist() == [0.25, 0.25]  # there is no less than one row


# A matrix of 250 x 250 takes 0.5 MB. Five are shared; each class has two, and 0.2 MB for the 2000 rows.
@pytest.mark.parametrize(("memory", "classes"), [(0, 1), (2_500_000 + 6 * 1_200_000, 6), (1 << 40, 40)])
def test_as_many_classes_are_solved_together_as_fit_into_memory(memory, classes):
    assert classes_at_once(Rows(np.zeros((2000, 250))), 40, memory) == classes


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_line_search_ends_near_the_minimum(scale):
    rng = np.random.default_rng(0)
    X, signs, weights = rng.normal(size=(40, 3)), np.sign(rng.normal(size=(40, 2))), rng.random((40, 2))
    W = rng.normal(size=(3, 2))

    def slack(V: np.ndarray) -> np.ndarray:
        return np.maximum(0.0, 1.0 - signs * (X @ V))

    def values(V: np.ndarray) -> np.ndarray:
        return 0.5 * (V**2).sum(axis=0) + (weights * slack(V) ** 2).sum(axis=0)

    move = -scale * (W - 2.0 * X.T @ (signs * weights * slack(W)))
    t = line_search(W, move, signs * (X @ W), signs * (X @ move), weights)
    for k in range(2):
        best = minimize_scalar(lambda t, k=k: values(W + t * move)[k], bracket=(0.0, 1.0 / scale))
        assert values(W + t * move)[k] - best.fun <= 0.01 * (values(W)[k] - best.fun)
