"""Newton's method for the squared hinge loss reaches the optimum, in either precision."""

from __future__ import annotations

import numpy as np
import pytest
from solver_problems import codes, objective

from cnncodes.solvers.classifiers import DenseLinearSVC


@pytest.mark.parametrize(("n", "d"), [(700, 30), (2500, 60)])
@pytest.mark.parametrize("C", [1.0, 1e5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_float32_rows_that_are_far_from_0_are_solved_as_those_of_float64(n, d, C, seed):
    X, y = codes(n, d, 3, seed=seed)
    X = (1000 + (X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    single, double = DenseLinearSVC(C=C).fit(X, y), DenseLinearSVC(C=C).fit(X.astype(np.float64), y)
    assert objective(single, X, y) <= objective(double, X, y) * (1 + 1e-6)
    assert single.n_iter_ < 50


@pytest.mark.parametrize("value", [1e3, 1e4, 1e6, 1e8, 1e10, 1e18])
def test_a_float32_row_that_outweighs_all_others_is_solved_as_in_float64(value):
    X, y = codes(400, 10, 2)
    X = X.astype(np.float32)
    X[0, 0] = value
    single, double = DenseLinearSVC().fit(X, y), DenseLinearSVC().fit(X.astype(np.float64), y)
    assert objective(single, X, y) <= objective(double, X, y) * (1 + 1e-6)
    assert single.n_iter_ < 50
