"""Coordinates keep the products of rows, and are orthogonal."""

from __future__ import annotations

import numpy as np
import pytest
from solver_problems import codes

from cnncodes.solvers.coordinates import Fold, SharedCoordinates, coordinates_of


def fold_of(n: int, d: int) -> Fold:
    X, y = codes(n + 5, d, 3)
    return Fold(X[:n], y[:n], X[n:])


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize(("n", "d"), [(30, 200), (90, 10)])
def test_products_are_kept_and_diagonal(n, d, free):
    fold = fold_of(n, d)
    found = coordinates_of(fold, np.float64, np.inf, None, free_intercept=free)
    centre = fold.train.mean(axis=0) if free else 0.0
    expected = (fold.test - centre) @ (fold.train - centre).T + 1.0
    np.testing.assert_allclose(found.test @ found.Z.T, expected, atol=1e-9 * np.abs(expected).max())
    size = found.squares.max()
    np.testing.assert_allclose(found.Z.T @ found.Z, np.diag(found.squares), atol=1e-9 * size)
    assert found.free.sum() == free
    assert (found.directions is None) == (n < d)


def test_directions_of_other_rows_are_nearly_as_good():
    first, other = fold_of(400, 10), fold_of(500, 10)
    directions = coordinates_of(first, np.float64, np.inf, None, free_intercept=False).directions
    found = coordinates_of(other, np.float64, np.inf, directions, free_intercept=False)
    assert found.directions is directions
    ones = np.ones((500, 1))
    expected = np.hstack([other.train, ones]) @ directions
    np.testing.assert_allclose(found.Z, expected, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(found.squares, (expected**2).sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(30, 200), (90, 10)])
def test_coordinates_of_centred_rows_serve_both_losses(n, d):
    fold = fold_of(n, d)
    centre = fold.train.mean(axis=0)
    fold = Fold((fold.train - centre).astype(np.float32), fold.y, (fold.test - centre).astype(np.float32))
    folds, shared = [fold], SharedCoordinates()
    svm = shared.of(folds, np.float64, np.inf, None, free_intercept=False)[0]
    logistic = shared.of(folds, np.float64, np.inf, None, free_intercept=True)[0]
    assert logistic.Z is svm.Z
    assert logistic.test is svm.test
    assert (svm.free.sum(), logistic.free.sum()) == (0, 1)
    np.testing.assert_allclose(svm.test @ svm.Z.T, fold.test @ fold.train.T + 1.0, atol=1e-4)


def test_coordinates_are_made_anew_where_they_differ():
    fold = fold_of(30, 200)  # not centred
    folds, shared = [fold], SharedCoordinates()
    svm = shared.of(folds, np.float64, np.inf, None, free_intercept=False)[0]
    logistic = shared.of(folds, np.float64, np.inf, None, free_intercept=True)[0]
    assert logistic.Z.shape[1] == svm.Z.shape[1]
    expected = coordinates_of(fold, np.float64, np.inf, None, free_intercept=True)
    np.testing.assert_array_equal(logistic.Z, expected.Z)
    other = shared.of([fold_of(20, 200)], np.float64, np.inf, None, free_intercept=True)[0]
    assert len(other.Z) == 20
