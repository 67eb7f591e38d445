"""The Newton systems of one class, each made from the one before by the few rows that changed.

A system is (I + 2 C sum_A r_i x_i x_i^T) v = g with the active rows A. It is solved as it stands, or, where there are
fewer active rows than columns, as a system over the active rows (Woodbury's identity).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from cnncodes.errors import RangeError
from cnncodes.solvers.matrix import Rows, product

__all__ = ["SAMPLE_FORM", "Curvature", "factorise"]

Array = NDArray[np.float64]

SAMPLE_FORM = 0.9  # active rows per column below which the system over the active rows is the cheaper one


def factorise(matrix: Array, scale: float, diagonal: Array | float) -> Array:
    """Return the Cholesky factor of scale * matrix + diag(diagonal), from the lower triangle of `matrix`."""
    added, shift = np.asarray(diagonal), np.finfo(float).eps * len(matrix)
    while True:
        system = scale * matrix
        system[np.diag_indices(len(system))] += added
        top = float(system.diagonal().max())
        if not np.isfinite(top):
            raise RangeError
        factor, info = lapack.dpotrf(system.T, lower=0, overwrite_a=1, clean=0)
        if info == 0:
            return factor
        # Rounding made it indefinite. The line search guards the step, so a shift costs speed, not correctness.
        added, shift = added + shift * top, 2 * shift


def _solve_definite(matrix: Array, scale: float, diagonal: Array | float, g: Array) -> Array:
    return lapack.dpotrs(factorise(matrix, scale, diagonal), g, lower=0)[0]


class Curvature:
    """The Newton systems of one class, each made from the one before."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.weights = np.zeros(rows.n)  # weight of each row in `gram`
        self.gram: Array | None = None
        self.active = np.empty(0, dtype=np.intp)  # the rows of `kernel`, in its order
        self.kernel: Array | None = None

    def forget(self) -> None:
        """Make the next system anew."""
        self.gram, self.weights = None, np.zeros(self.rows.n)

    def solve(self, weights: Array, C: float, g: Array, shared: Curvature | None = None) -> Array:
        """Return v of (I + 2 C sum weights_i x_i x_i^T) v = g, with g of shape (p, k)."""
        active = np.flatnonzero(weights)
        if len(active) <= SAMPLE_FORM * self.rows.p:
            return self._solve_samples(active, weights, C, g)
        self._update_gram(weights, shared)
        assert self.gram is not None
        return _solve_definite(self.gram, 2.0 * C, 1.0, g)

    def nearest(self, weights: Array, shared: Curvature | None) -> tuple[int, Curvature | None]:
        """Return how many rows have to be added or removed, and which matrix to start from (None: from 0)."""
        systems = [other for other in (shared, self) if other is not None and other.gram is not None]
        candidates: list[tuple[int, Curvature | None]] = [(int(np.count_nonzero(weights)), None)]
        candidates += [(int(np.count_nonzero(weights != other.weights)), other) for other in systems]
        return min(candidates, key=lambda candidate: candidate[0])

    def _update_gram(self, weights: Array, shared: Curvature | None) -> None:
        _, base = self.nearest(weights, shared)
        if base is None:
            gram, old = np.zeros((self.rows.p, self.rows.p)), np.zeros(self.rows.n)
        else:
            assert base.gram is not None
            gram, old = (base.gram if base is self else base.gram.copy()), base.weights
        change = weights - old
        for sign in (1.0, -1.0):
            index = np.flatnonzero(sign * change > 0)
            if len(index):
                self.rows.add_gram(gram, index, np.abs(change[index]), sign)
        self.gram, self.weights = gram, weights.copy()

    def _solve_samples(self, active: NDArray, weights: Array, C: float, g: Array) -> Array:
        if not len(active):
            return g.copy()
        if self.rows.kernel is not None:
            rows, kernel = self.rows.take(active), self.rows.kernel[np.ix_(active, active)]
        else:
            active, rows, kernel = self._update_kernel(active)
        inner = _solve_definite(kernel, 1.0, 1.0 / (2.0 * C * weights[active]), product(rows, g))
        return g - product(rows.T, inner)

    def _update_kernel(self, active: NDArray) -> tuple[NDArray, Array, Array]:
        wanted = np.zeros(self.rows.n, dtype=bool)
        wanted[active] = True
        stay = np.flatnonzero(wanted[self.active])
        wanted[self.active] = False
        active = np.concatenate([self.active[stay], np.flatnonzero(wanted)])
        rows = self.rows.take(active)
        kernel = np.zeros((len(active), len(active)))  # above the diagonal nothing is filled in
        if self.kernel is not None:
            kernel[: len(stay), : len(stay)] = self.kernel[np.ix_(stay, stay)]
        kernel[len(stay) :] = product(rows[len(stay) :], rows.T)
        self.active, self.kernel = active, kernel
        return active, rows, kernel
