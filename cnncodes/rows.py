"""Products with the rows of a dense matrix, summed in float64 without a float64 copy of the matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas
from threadpoolctl import threadpool_limits

__all__ = ["Matrix", "Rows", "few_threads"]

Array = NDArray[np.float64]

BLOCK_BYTES = 16 << 20  # float64 copies of rows are made in blocks of this size, which stay near the cache
SMALL = 4_000_000  # entries; with 320 x 1280 and the other core busy, two threads took 70 s for what one did in 3 s
KERNEL_ROWS = 2  # rows per column up to which all products of rows are computed once


class Matrix(Protocol):
    """What is needed of an array, or of what stands in for one and reads its rows where they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, index: NDArray | slice, /) -> NDArray: ...


class Rows:
    """The rows of a dense matrix and the constant column of the intercept, handed out in float64.

    Parameters
    ----------
    X : Matrix of shape (n, d)
        float32 or float64; it is neither copied as a whole nor changed.
    bias : float
        Value of the constant column; 0 for none.
    """

    def __init__(self, X: Matrix, bias: float = 0.0) -> None:
        self.X = X
        self.bias = float(bias)
        self.n, self.d = X.shape
        self.p = self.d + (bias > 0)
        self._kernel: Array | None = None

    def blocks(self, total: int) -> Iterator[slice]:
        size = max(64, BLOCK_BYTES // (8 * max(self.p, 1)))
        for start in range(0, total, size):
            yield slice(start, min(start + size, total))

    def take(self, index: NDArray | slice) -> Array:
        """Return rows as a new float64 array of shape (m, p)."""
        part = self.X[index]
        rows = np.empty((len(part), self.p))
        rows[:, : self.d] = part
        if self.bias:
            rows[:, self.d] = self.bias
        return rows

    def scores(self, W: Array) -> Array:
        """Return the products of all rows with the columns of `W`, (n, k)."""
        out = np.empty((self.n, W.shape[1]))
        for block in self.blocks(self.n):
            np.matmul(np.asarray(self.X[block], dtype=np.float64), W[: self.d], out=out[block])
        if self.bias:
            out += self.bias * W[self.d]
        return out

    def pull(self, R: Array) -> Array:
        """Return the sums of rows weighted by the columns of `R`, (p, k)."""
        out = np.zeros((self.p, R.shape[1]))
        for block in self.blocks(self.n):
            out[: self.d] += np.asarray(self.X[block], dtype=np.float64).T @ R[block]
        if self.bias:
            out[self.d] = self.bias * R.sum(axis=0)
        return out

    def curve(self, V: Array, weights: NDArray) -> Array:
        """Return X^T (weights * (X V)) in the precision of X, for directions that need no more; V is (p, k)."""
        V = V.astype(self.X.dtype)
        out = np.zeros((self.p, V.shape[1]))
        for block in self.blocks(self.n):
            X = self.X[block]
            scores = X @ V[: self.d]
            if self.bias:
                scores += self.X.dtype.type(self.bias) * V[self.d]
            scores *= weights[block]
            out[: self.d] += X.T @ scores
            if self.bias:
                out[self.d] += self.bias * scores.sum(axis=0)
        return out

    def add_gram(self, gram: Array, index: NDArray, weights: Array, sign: float) -> None:
        """Add sign * sum weights_i x_i x_i^T to the lower triangle of `gram`, in place."""
        for block in self.blocks(len(index)):
            rows = self.take(index[block])
            rows *= np.sqrt(weights[block])[:, None]
            blas.dsyrk(sign, rows.T, beta=1.0, c=gram.T, lower=0, overwrite_c=1)

    @property
    def kernel(self) -> Array | None:
        """All products of two rows, where that matrix is not much larger than the rows themselves."""
        if self._kernel is None and self.n <= KERNEL_ROWS * self.p:
            rows = self.take(slice(None))
            self._kernel = rows @ rows.T
        return self._kernel


def few_threads(X: Matrix) -> AbstractContextManager[Any]:
    """Keep BLAS on one thread where X is small: its threads would wait for each other longer than they compute."""
    return threadpool_limits(limits=1 if math.prod(X.shape) < SMALL else None, user_api="blas")
