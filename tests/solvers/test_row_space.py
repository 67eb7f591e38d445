"""Rows replaced by coordinates in their span lead to the same solutions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from solver_problems import COLUMNS, codes

from cnncodes.solvers.classifiers import DenseLinearSVC
from cnncodes.solvers.row_space import RowSpace


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("bias", [0.0, 1.0, 10.0])
def test_reduction_to_the_span_of_the_rows_loses_nothing(columns, bias):
    X, _ = codes(40, 500, 3)
    X = COLUMNS[columns](X)
    rows, others = X[:30], X[30:]
    space = RowSpace(rows, bias)
    size = (np.linalg.norm(rows, axis=1) ** 2).max()
    np.testing.assert_allclose(space.Z @ space.Z.T, rows @ rows.T + bias**2, atol=1e-12 * size)
    W = space.Z.T @ np.random.default_rng(0).standard_normal((len(rows), 2))
    lifted = space.lift(W)
    expected = others @ lifted[: X.shape[1]] + (bias * lifted[-1] if bias else 0.0)
    np.testing.assert_allclose(space.project(others) @ W, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(np.linalg.norm(lifted, axis=0), np.linalg.norm(W, axis=0), rtol=1e-6)


def test_small_columns_matter_only_where_rows_are_long_for_the_largest_C():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 500)) / np.sqrt(500)
    X[:, 0] *= 1e-4
    by_gram, by_rows = RowSpace(X, 1.0, largest_C=1e5), RowSpace(X, 1.0)
    assert by_gram.squares is not None
    assert by_rows.squares is None
    assert RowSpace(1e3 * X, 1.0, largest_C=1e5).squares is None
    np.testing.assert_allclose(by_gram.Z @ by_gram.Z.T, by_rows.Z @ by_rows.Z.T, atol=1e-12)


def test_reduced_and_direct_solutions_agree(monkeypatch):
    X, y = codes(60, 300, 3)
    reduced = [DenseLinearSVC(C=C).fit(X, y) for C in (1e-4, 1.0, 1e4)]
    monkeypatch.setattr("cnncodes.solvers.path.worth_reducing", lambda n, d: False)
    for model in reduced:
        direct = clone(model).fit(X, y)
        np.testing.assert_allclose(model.coef_, direct.coef_, rtol=1e-4, atol=1e-6 * np.abs(direct.coef_).max())
