"""Classifiers of a path, with their weights written out."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.solvers.linear_path import LinearPath
from cnncodes.solvers.row_space import RowSpace

X = np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]])


def path(weights: list[np.ndarray], intercepts: np.ndarray, bias: float, space: RowSpace | None = None) -> LinearPath:
    ones = np.ones(len(weights))
    return LinearPath(
        Cs=np.arange(1.0, len(weights) + 1),
        classes=np.array([0, 1]),
        n_iter=ones.astype(int),
        converged=ones.astype(bool),
        objective=ones,
        n_features=3,
        _weights=weights,
        _intercepts=intercepts,
        _bias=bias,
        _space=space,
    )


def test_a_penalised_intercept_is_the_weight_of_the_constant_column():
    weights = [np.array([[1.0], [0.0], [-1.0], [0.5]]), np.array([[0.0], [2.0], [0.0], [-3.0]])]
    fitted = path(weights, bias=10.0, intercepts=np.zeros((2, 1)))
    coef, intercept = fitted.coefficients(1)
    assert (coef.tolist(), intercept.tolist()) == ([[0.0, 2.0, 0.0]], [-30.0])
    assert fitted.decision_function(X).tolist() == [[[6.0], [2.0]], [[-26.0], [-32.0]]]


def test_an_intercept_that_is_not_penalised_is_added():
    fitted = path([np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])], bias=0.0, intercepts=np.array([[7.0, -7.0]]))
    coef, intercept = fitted.coefficients(0)
    assert (coef.tolist(), intercept.tolist()) == ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [7.0, -7.0])
    intercept[:] = 0  # a copy
    assert fitted.decision_function(X).tolist() == [[[8.0, -5.0], [7.0, -8.0]]]


def test_weights_on_the_span_of_the_rows_are_lifted():
    space = RowSpace(X, 1.0)
    weights = np.linalg.lstsq(space.Z, np.array([[1.0], [-2.0]]), rcond=None)[0]
    fitted = path([weights], bias=1.0, intercepts=np.zeros((1, 1)), space=space)
    coef, intercept = fitted.coefficients(0)
    np.testing.assert_allclose(X @ coef[0] + intercept, [1.0, -2.0], atol=1e-12)
    np.testing.assert_allclose(fitted.decision_function(X)[0, :, 0], [1.0, -2.0], atol=1e-12)


def test_rows_of_another_width_are_refused():
    fitted = path([np.zeros((3, 1))], bias=0.0, intercepts=np.zeros((1, 1)))
    with pytest.raises(ValueError, match="take rows of 3 features"):
        fitted.decision_function(X[:, :2])
