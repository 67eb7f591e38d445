"""Products with the rows of a dense matrix, summed in float64 without a float64 copy of the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, get_blas_funcs

__all__ = ["Array", "Matrix", "Rows", "Visit", "product"]

Array = NDArray[np.float64]
Visit = Callable[[slice, NDArray], NDArray]

BLOCK_BYTES = 16 << 20  # float64 copies of rows are made in blocks of this size, which stay near the cache
MIN_SINGLE_ROWS = 256  # with fewer, adding float32 products to the others takes longer than computing them
KERNEL_ROWS = 2  # rows per column: with at most so many, all products of two rows are computed once


class Matrix(Protocol):
    """An array, or an object that stands in for one and reads rows when they are indexed."""

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

    Attributes
    ----------
    single : bool
        Products that only say where to step next are of the precision of float32 rows. It can be taken back.
    """

    def __init__(self, X: Matrix, bias: float = 0.0) -> None:
        self.X = X
        self.bias = float(bias)
        self.n, self.d = X.shape
        self.p = self.d + (bias > 0)
        self.single = X.dtype == np.float32
        self._kernel: Array | None = None

    @property
    def block_bytes(self) -> int:
        """Size of the float64 copies of rows that are made at a time."""
        return BLOCK_BYTES

    def blocks(self, total: int) -> Iterator[slice]:
        """Return slices that cover `total` rows, each of at most `block_bytes` (or 64 rows)."""
        size = max(64, self.block_bytes // (8 * max(self.p, 1)))
        for start in range(0, total, size):
            yield slice(start, min(start + size, total))

    def take(self, index: NDArray | slice, dtype: type = np.float64) -> NDArray:
        """Return rows as a new array of shape (m, p)."""
        part = self.X[index]
        rows: NDArray = np.empty((len(part), self.p), dtype)
        rows[:, : self.d] = part
        if self.bias:
            rows[:, self.d] = self.bias
        return rows

    def scores(self, W: Array) -> Array:
        """Return the products of all rows with the columns of `W`, (n, k)."""
        out = np.empty((self.n, W.shape[1]))
        for block in self.blocks(self.n):
            out[block] = product(np.asarray(self.X[block], dtype=np.float64), W[: self.d])
        if self.bias:
            out += self.bias * W[self.d]
        return out

    def pull(self, R: Array) -> Array:
        """Return the sums of rows weighted by the columns of `R`, (p, k)."""
        out = np.zeros((self.p, R.shape[1]))
        for block in self.blocks(self.n):
            out[: self.d] += product(np.asarray(self.X[block], dtype=np.float64).T, R[block])
        if self.bias:
            out[self.d] = self.bias * R.sum(axis=0)
        return out

    def hessian_dot(self, V: Array, weights: NDArray) -> Array:
        """Return X^T (weights * (X V)), in float32 where `single` products do; V is (p, k)."""
        dtype = np.dtype(np.float32 if self.single else np.float64)
        V, weights = V.astype(dtype), weights.astype(dtype)
        out = np.zeros((self.p, V.shape[1]))
        for block in self.blocks(self.n):
            X = np.asarray(self.X[block], dtype)
            scores = product(X, V[: self.d])
            if self.bias:
                scores += dtype.type(self.bias) * V[self.d]
            scores *= weights[block]
            out[: self.d] += product(X.T, scores)
            if self.bias:
                out[self.d] += self.bias * scores.sum(axis=0)
        return out

    def sweep(self, W: NDArray, visit: Visit) -> Array:
        """Return the sum of rows weighted by what is made of their products with `W`, in one reading: (d, l).

        Parameters
        ----------
        W : ndarray of shape (d, k)
            Columns to multiply with; a block is computed in their precision.
        visit : callable
            Given a block of rows and their products (m, k), which it may overwrite, returns the weights (m, l).
        """
        out: Array | float = 0.0
        for block in self.blocks(self.n):
            X = self.X[block].astype(W.dtype, copy=False)
            out = out + product(X.T, visit(block, product(X, W))).astype(np.float64, copy=False)
        return np.asarray(out)

    def add_gram(self, gram: Array, index: NDArray, weights: Array, sign: float) -> None:
        """Add sign * sum weights_i x_i x_i^T to the lower triangle of `gram`, in place.

        `single` products are summed in float32 within a block.
        """
        single = self.single and len(index) > MIN_SINGLE_ROWS
        for block in self.blocks(len(index)):
            rows = self.take(index[block], np.float32 if single else np.float64)
            rows *= np.sqrt(weights[block])[:, None].astype(rows.dtype)
            if single:
                gram += blas.ssyrk(sign, rows.T, lower=0).T
            else:
                blas.dsyrk(sign, rows.T, beta=1.0, c=gram.T, lower=0, overwrite_c=1)

    @cached_property
    def squares(self) -> float:
        """The sum of all squared entries."""
        parts = (np.linalg.norm(np.asarray(self.X[block], np.float64)) for block in self.blocks(self.n))
        return float(sum(part**2 for part in parts)) + self.n * self.bias**2

    @property
    def kernel(self) -> Array | None:
        """All products of two rows in memory, where that matrix is not much larger than the rows themselves."""
        if self._kernel is None and self.n <= KERNEL_ROWS * self.p and isinstance(self.X, np.ndarray):
            rows = self.take(slice(None))
            self._kernel = product(rows, rows.T)
        return self._kernel


def product(A: NDArray, B: NDArray) -> NDArray:
    """Return A @ B, by the BLAS of scipy, which makes the factorisations, too.

    That of numpy has threads of its own. Where both work in turns, those that are done keep their cores busy, waiting,
    while the others need them.
    """
    gemm = get_blas_funcs("gemm", (A, B))
    if len(A) >= B.shape[1]:  # BLAS is up to twice as fast where the longer side of the result comes first
        first, second = (A.T, 1) if A.flags.c_contiguous else (A, 0), (B.T, 1) if B.flags.c_contiguous else (B, 0)
        return gemm(1.0, first[0], second[0], trans_a=first[1], trans_b=second[1])
    left, right = (B.T, 0) if B.flags.c_contiguous else (B, 1), (A.T, 0) if A.flags.c_contiguous else (A, 1)
    return gemm(1.0, left[0], right[0], trans_a=left[1], trans_b=right[1]).T
