"""Newton's method for the l2-regularised squared hinge loss on dense rows, for all classes and many C.

For one class with signs s_i, weights r_i and rows x_i (the constant intercept column included)

    P(w) = 1/2 |w|^2 + C sum_i r_i max(0, 1 - s_i w.x_i)^2,

which is quadratic as long as the active set A = {i: s_i w.x_i < 1} stays the same. So Newton's method with an exact
line search ends after a few steps (Keerthi and DeCoste 2005), and what it costs is the solution of

    (I + 2 C sum_A r_i x_i x_i^T) v = g,

either as it stands, or as a system of |A| unknowns where the active set is smaller than a row is long. Both matrices
are kept and updated by the few rows that enter or leave the active set from one step, and one C, to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

__all__ = ["HingeProblem", "Rows", "Solution", "solve_path"]

Array = NDArray[np.float64]

BLOCK_BYTES = 16 << 20  # float64 copies of rows are made in blocks of this size, which stay near the cache
CURVATURE_BYTES = 256 << 20  # classes are solved together as long as their matrices fit in here
SAMPLE_FORM = 0.9  # active rows per column below which the system over the active rows is the cheaper one
KERNEL_ROWS = 2  # rows per column up to which all products of rows are computed once
OBJECTIVE_GAP = 1e-7  # relative: what a solution may lie above the optimum
ROUNDING_GAP = 1e-13  # relative: an expected gain below this cannot be told from rounding


class Rows:
    """The rows of a dense matrix and the constant column of the intercept, handed out in float64.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        float32 or float64; it is neither copied as a whole nor changed.
    bias : float
        Value of the constant column; 0 for none.
    """

    def __init__(self, X: NDArray, bias: float = 0.0) -> None:
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

    def add_gram(self, gram: Array, index: NDArray, weights: Array, sign: float) -> Array:
        """Add sign * sum weights_i x_i x_i^T to the lower triangle of `gram`, which is in Fortran order."""
        for block in self.blocks(len(index)):
            rows = self.take(index[block])
            rows *= np.sqrt(weights[block])[:, None]
            gram = blas.dsyrk(sign, rows.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
        return gram

    @property
    def kernel(self) -> Array | None:
        """All products of two rows, where that matrix is not much larger than the rows themselves."""
        if self._kernel is None and self.n <= KERNEL_ROWS * self.p:
            rows = self.take(slice(None))
            self._kernel = rows @ rows.T
        return self._kernel


def _factorise(matrix: Array) -> Array:
    """Cholesky-factorise in place, from the lower triangle of a matrix in Fortran order."""
    diagonal = matrix.diagonal().copy()
    factor, info = lapack.dpotrf(matrix, lower=1, overwrite_a=0, clean=0)
    shift = np.finfo(float).eps * float(diagonal.max()) * len(diagonal)
    while info:  # rounding made it indefinite: the smallest shift that mends it; the line search guards the step
        np.fill_diagonal(matrix, diagonal + shift)
        factor, info = lapack.dpotrf(matrix, lower=1, overwrite_a=0, clean=0)
        shift *= 10
    return factor


class Curvature:
    """The Newton systems of one class, each made from the one before."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.weights = np.zeros(rows.n)  # of each row in `gram`
        self.gram: Array | None = None
        self.active = np.empty(0, dtype=np.intp)  # the rows of `kernel`, in its order
        self.kernel: Array | None = None

    def solve(self, weights: Array, C: float, g: Array, shared: Curvature | None = None) -> Array:
        """Return v of (I + 2 C sum weights_i x_i x_i^T) v = g, with g of shape (p, k)."""
        active = np.flatnonzero(weights)
        if len(active) <= SAMPLE_FORM * self.rows.p:
            return self._solve_samples(active, weights, C, g)
        self._update_gram(weights, shared)
        assert self.gram is not None
        system = (2.0 * C) * self.gram
        system[np.diag_indices(len(system))] += 1.0
        return lapack.dpotrs(_factorise(system), g, lower=1)[0]

    def _update_gram(self, weights: Array, shared: Curvature | None) -> None:
        candidates = [(np.count_nonzero(weights), None)]
        candidates += [
            (np.count_nonzero(weights != c.weights), c) for c in (shared, self) if c is not None and c.gram is not None
        ]
        base = min(candidates, key=lambda candidate: candidate[0])[1]
        if base is None:
            gram, old = np.zeros((self.rows.p, self.rows.p), order="F"), np.zeros(self.rows.n)
        else:
            assert base.gram is not None
            gram, old = (base.gram if base is self else base.gram.copy(order="F")), base.weights
        change = weights - old
        for sign in (1.0, -1.0):
            index = np.flatnonzero(sign * change > 0)
            if len(index):
                gram = self.rows.add_gram(gram, index, np.abs(change[index]), sign)
        self.gram, self.weights = gram, weights.copy()

    def _solve_samples(self, active: NDArray, weights: Array, C: float, g: Array) -> Array:
        if not len(active):
            return g.copy()
        if self.rows.kernel is not None:
            kernel = self.rows.kernel[np.ix_(active, active)]
            rows = self.rows.take(active)
        else:
            active, rows, kernel = self._update_kernel(active)
        system = np.array(kernel, order="C").T  # Fortran order, whose lower triangle ...
        if self.rows.kernel is None:
            system = np.asfortranarray(kernel)  # ... is the one that is filled
        system[np.diag_indices(len(system))] += 1.0 / (2.0 * C * weights[active])
        return g - rows.T @ lapack.dpotrs(_factorise(system), rows @ g, lower=1)[0]

    def _update_kernel(self, active: NDArray) -> tuple[NDArray, Array, Array]:
        wanted = np.zeros(self.rows.n, dtype=bool)
        wanted[active] = True
        stay = np.flatnonzero(wanted[self.active])
        wanted[self.active] = False
        active = np.concatenate([self.active[stay], np.flatnonzero(wanted)])
        rows = self.rows.take(active)
        kernel = np.empty((len(active), len(active)))
        if self.kernel is not None:
            kernel[: len(stay), : len(stay)] = self.kernel[np.ix_(stay, stay)]
        np.matmul(rows[len(stay) :], rows.T, out=kernel[len(stay) :])
        self.active, self.kernel = active, kernel
        return active, rows, kernel
