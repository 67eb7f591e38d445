"""Coordinates of a few long rows in the space that they span.

The minimiser of an l2-penalised linear model is a combination of the rows it was fitted to. So n rows of d > n columns
can be replaced, without any loss, by their n x r coordinates in an orthonormal basis of their span, r <= n: objective
and decision values stay the same, and the weights are found again by one product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr

__all__ = ["RowSpace", "worth_reducing"]

Array = NDArray[np.float64]

BLOCK_COLUMNS = 2048  # columns that are converted to float64 at a time
SCALE_SPREAD = 1e3  # ratio of the norms of columns above which a Gram matrix would lose the small ones
LOST = 1e-6  # part of the penalty, up to which its rounding hardly changes a solution


def worth_reducing(n: int, d: int) -> bool:
    """Whether the reduction pays for itself in the few products of a single fit."""
    return 3 * n < 2 * d


class RowSpace:
    """An orthonormal basis of the span of the rows of `X` (with the constant column `bias`, where it is not 0).

    Parameters
    ----------
    X : ndarray of shape (n, d)
    bias : float, default=0.0
    largest_C : float, optional
        With no larger C, times the weight of a row, is a model fitted: where that is little for rows as short as
        these, small columns matter less than the rounding of a Gram matrix, which takes a fifth of the time.

    Attributes
    ----------
    Z : ndarray of shape (n, r)
        The rows in that basis, float64.
    squares : ndarray of shape (r,), or None
        The diagonal of Z^T Z where that matrix is diagonal.
    """

    def __init__(self, X: NDArray, bias: float = 0.0, largest_C: float = np.inf) -> None:
        self.X, self.bias = X, float(bias)
        norms = np.sqrt(np.einsum("ij,ij->j", X, X, dtype=np.float64))
        if bias:
            norms = np.append(norms, abs(bias) * np.sqrt(len(X)))
        norms = norms[norms > 0]
        rounding = np.finfo(float).eps * np.square(norms).sum()
        if len(norms) and norms.max() > SCALE_SPREAD * norms.min() and not largest_C * rounding <= LOST:
            self._decompose_rows()
        else:
            self._decompose_gram()

    def _decompose_gram(self) -> None:
        """X X^T = U diag(l) U^T, so Z = U diag(sqrt(l)), and the basis is X^T U diag(1 / sqrt(l))."""
        values, U = eigh(self.products(self.X), overwrite_a=True, check_finite=False, driver="evd")
        kept = values > len(values) * np.finfo(float).eps * max(values[-1], np.finfo(float).tiny)
        if not kept.any():
            kept[-1] = True
            values[-1] = 1.0
            U[:, -1] = 0.0
        root = np.sqrt(values[kept])
        self.Z = U[:, kept] * root
        self.squares: Array | None = values[kept]
        self._to_rows: Array | None = U[:, kept] / root
        self._basis: Array | None = None

    def _decompose_rows(self) -> None:
        rows = np.asarray(self.X, dtype=np.float64)
        if self.bias:
            rows = np.column_stack([rows, np.full(len(rows), self.bias)])
        basis, R = qr(rows.T, mode="economic", check_finite=False)
        self.Z, self._basis, self._to_rows = np.ascontiguousarray(R.T), basis, None
        self.squares = None

    def products(self, X: NDArray) -> Array:
        """Return the products of other rows with the rows of the basis, (m, n)."""
        out = np.full((len(X), len(self.X)), self.bias**2)
        for start in range(0, X.shape[1], BLOCK_COLUMNS):
            columns = slice(start, start + BLOCK_COLUMNS)
            left = np.asarray(X[:, columns], dtype=np.float64)
            right = left if X is self.X else np.asarray(self.X[:, columns], dtype=np.float64)
            out += left @ right.T
        return out

    def project(self, X: NDArray) -> Array:
        """Return other rows in this basis, (m, r); weights outside of the basis are 0, so nothing else counts."""
        if self._to_rows is not None:
            return self.products(X) @ self._to_rows
        assert self._basis is not None
        out = np.asarray(X, dtype=np.float64) @ self._basis[: X.shape[1]]
        return out + self.bias * self._basis[-1] if self.bias else out

    def lift(self, W: Array) -> Array:
        """Return the weights on the columns of `X` (and the constant one) for weights `W` on this basis."""
        if self._basis is not None:
            return self._basis @ W
        assert self._to_rows is not None
        combination = self._to_rows @ W
        out = np.empty((self.X.shape[1] + (self.bias != 0), W.shape[1]))
        for start in range(0, self.X.shape[1], BLOCK_COLUMNS):
            columns = slice(start, min(start + BLOCK_COLUMNS, self.X.shape[1]))
            out[columns] = np.asarray(self.X[:, columns], dtype=np.float64).T @ combination
        if self.bias:
            out[-1] = self.bias * combination.sum(axis=0)
        return out
