"""Newton's method for the squared hinge loss reaches the optimum, in either precision."""

from __future__ import annotations

import numpy as np
import pytest
from solver_problems import codes, objective

from cnncodes.solvers.classifiers import DenseLinearSVC
from cnncodes.solvers.hinge import HingeProblem
from cnncodes.solvers.hinge_path import solve_hinge_path
from cnncodes.solvers.matrix import Rows


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


def test_a_solution_is_where_the_gradient_written_out_is_0():
    X, y = codes(80, 6, 3)
    signs = np.where(y[:, None] == np.arange(3), 1, -1).astype(np.int8)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, (80, 1))
    problem = HingeProblem(Rows(X, 1.0), signs, weights)
    columns = np.column_stack([X, np.ones(80)])
    for solution in solve_hinge_path([problem], [0.01, 1.0], tol=1e-9):
        slack = np.maximum(0.0, 1.0 - signs * (columns @ solution.W))
        gradient = solution.W - 2 * solution.C * columns.T @ (weights * signs * slack)
        assert solution.converged.all()
        np.testing.assert_allclose(gradient, 0.0, atol=1e-6 * solution.C * np.abs(columns).sum())
        expected = 0.5 * (solution.W**2).sum(axis=0) + solution.C * (weights * slack**2).sum(axis=0)
        np.testing.assert_allclose(solution.objective, expected, rtol=1e-10)


def test_classes_solved_one_after_the_other_are_those_solved_together():
    X, y = codes(80, 6, 3)
    signs = np.where(y[:, None] == np.arange(3), 1, -1).astype(np.int8)
    rows, weights = Rows(X), np.ones((80, 1))
    (together,) = solve_hinge_path([HingeProblem(rows, signs, weights)], [0.5], tol=1e-9)
    parts = (HingeProblem(rows, signs[:, part], weights) for part in (slice(0, 2), slice(2, 3)))
    (joined,) = solve_hinge_path(parts, [0.5], tol=1e-9)
    np.testing.assert_allclose(joined.W, together.W, atol=1e-7)
    np.testing.assert_allclose(joined.objective, together.objective, rtol=1e-9)
    assert (joined.C, joined.n_iter.shape, joined.converged.tolist()) == (0.5, (3,), [True] * 3)
