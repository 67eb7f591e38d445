"""Products with rows are those of numpy, in blocks, with the constant column, in either precision."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.solvers import matrix
from cnncodes.solvers.matrix import Rows, product

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 7))


@pytest.fixture(autouse=True)
def in_blocks(monkeypatch):
    monkeypatch.setattr(matrix, "BLOCK_BYTES", 0)  # 64 rows at a time


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_products_are_those_of_numpy(dtype, bias):
    rows = Rows(X.astype(dtype), bias)
    exact = X.astype(dtype).astype(float)
    if bias:
        exact = np.column_stack([exact, np.full(len(X), bias)])
    W, R, weights = RNG.normal(size=(rows.p, 3)), RNG.normal(size=(300, 3)), RNG.random((300, 3))
    close = {"rtol": 1e-4, "atol": 1e-3} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-10}
    assert (rows.n, rows.d, rows.p, rows.single) == (300, 7, 7 + (bias > 0), dtype == np.float32)
    np.testing.assert_array_equal(rows.take(np.array([5, 2])), exact[[5, 2]])
    np.testing.assert_allclose(rows.scores(W), exact @ W, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(rows.pull(R), exact.T @ R, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(rows.hessian_dot(W, weights), exact.T @ (weights * (exact @ W)), **close)
    assert rows.squares == pytest.approx((exact**2).sum(), rel=1e-12)


def test_a_gram_matrix_takes_rows_up_and_gives_them_back():
    rows, weights = Rows(X, 1.0), RNG.random(300)
    exact = np.column_stack([X, np.ones(300)])
    gram = np.zeros((8, 8))
    rows.add_gram(gram, np.arange(300), weights, 1.0)
    np.testing.assert_allclose(np.tril(gram), np.tril(exact.T @ (weights[:, None] * exact)), rtol=1e-10, atol=1e-10)
    rows.add_gram(gram, np.arange(100, 300), weights[100:], -1.0)
    first = exact[:100]
    np.testing.assert_allclose(np.tril(gram), np.tril(first.T @ (weights[:100, None] * first)), rtol=1e-9, atol=1e-10)


def test_products_of_all_rows_are_held_only_where_they_are_few():
    assert Rows(X).kernel is None
    np.testing.assert_allclose(Rows(X[:14], 1.0).kernel, X[:14] @ X[:14].T + 1.0, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shapes", [((5, 3), (3, 8)), ((8, 3), (3, 5)), ((4, 4), (4, 1))])
@pytest.mark.parametrize("orders", ["CC", "CF", "FC", "FF"])
def test_a_product_is_that_of_numpy_in_any_order_of_memory(shapes, orders):
    A, B = (np.asarray(RNG.normal(size=shape), order=order) for shape, order in zip(shapes, orders, strict=True))
    np.testing.assert_allclose(product(A, B), A @ B, rtol=1e-12, atol=1e-12)
