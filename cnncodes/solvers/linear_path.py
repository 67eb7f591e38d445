"""Linear classifiers fitted to the same rows for several values of C."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnncodes.solvers.matrix import Rows
from cnncodes.solvers.row_space import RowSpace

__all__ = ["LinearPath", "Solution"]


@dataclass(frozen=True)
class Solution:
    """What a solver found for one value of C.

    Attributes
    ----------
    C : float
    W : ndarray of shape (p, k)
        Weights of the rows that it was given.
    objective, n_iter, converged : ndarray of shape (k,)
        The minimised objective, the Newton steps, and whether the tolerance was reached, by class.
    """

    C: float
    W: NDArray
    objective: NDArray
    n_iter: NDArray
    converged: NDArray


@dataclass(frozen=True)
class LinearPath:
    """Linear classifiers fitted to the same rows for several values of C.

    Attributes
    ----------
    Cs : ndarray of shape (n_Cs,)
        Values of C, in the order of the caller.
    classes : ndarray of shape (n_classes,)
        Sorted labels.
    n_iter : ndarray of int of shape (n_Cs,)
        Steps of the slowest class.
    converged : ndarray of bool of shape (n_Cs,)
        Whether the tolerance was reached for all classes.
    objective : ndarray of shape (n_Cs,)
        The minimised objective; one-vs-rest problems are summed.
    n_features : int
        Number of columns of the rows.
    """

    Cs: NDArray
    classes: NDArray
    n_iter: NDArray
    converged: NDArray
    objective: NDArray
    n_features: int
    _weights: list[NDArray]  # (p, k) each; in the coordinates of `_space`, where there is one
    _intercepts: NDArray  # (n_Cs, k); 0 where the intercepts are weights of the constant column
    _bias: float  # value of the constant column
    _space: RowSpace | None

    def coefficients(self, i: int) -> tuple[NDArray, NDArray]:
        """Return `coef_` (k, n_features) and `intercept_` (k,) for ``Cs[i]``; k is 1 for two classes."""
        W = self._weights[i] if self._space is None else self._space.lift(self._weights[i])
        if not self._bias:
            return np.ascontiguousarray(W.T), self._intercepts[i].copy()
        return np.ascontiguousarray(W[:-1].T), self._bias * W[-1]

    def decision_function(self, X: NDArray) -> NDArray:
        """Return the decision values of dense rows for every C: (n_Cs, m, k), with k = 1 for two classes."""
        if X.shape[1:] != (self.n_features,):
            raise ValueError(f"X has shape {X.shape}, but the classifiers take rows of {self.n_features} features")
        W = np.concatenate(self._weights, axis=1)
        scores = Rows(X, self._bias).scores(W) if self._space is None else self._space.project(X) @ W
        return np.moveaxis(scores.reshape(len(X), len(self.Cs), -1), 1, 0) + self._intercepts[:, None]
