"""L2-regularised logistic regression on dense rows, binary or multinomial: its objective and derivatives.

The objective is that of `sklearn.linear_model.LogisticRegression`, with an intercept b that is not penalised:

    P(W, b) = 1/2 |W|^2 + C L(W, b),   L = sum_i r_i loss(y_i, W x_i + b).

Centred rows leave the intercept b next to uncoupled from W; they are centred in the products and not in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from cnncodes.solvers.matrix import Rows

__all__ = ["LogisticPoint", "LogisticProblem"]

Array = NDArray[np.float64]


@dataclass
class LogisticPoint:
    """L and its derivatives at W: the gradient, the mean curvature of each row, and its probabilities."""

    W: Array
    loss: float
    slope: Array
    curvature: Array
    chances: NDArray | None  # None: they are computed where they are needed
    dtype: np.dtype

    def objective(self, C: float) -> float:
        return 0.5 * float((self.W[:-1] ** 2).sum()) + C * self.loss

    def gradient(self, C: float) -> Array:
        gradient = C * self.slope
        gradient[:-1] += self.W[:-1]
        return gradient


class LogisticProblem:
    """The rows, their labels and weights.

    The rows are centred, in the products and not in memory, which leaves the intercept next to uncoupled from `W`.

    Parameters
    ----------
    rows : Rows
        Without a constant column.
    codes : ndarray of int of shape (n,)
        Class of each row.
    n_classes : int
        2 means one column of coefficients, for class 1.
    weights : ndarray of shape (n,)
        Positive.
    intercept : bool
    """

    def __init__(self, rows: Rows, codes: NDArray, n_classes: int, weights: Array, intercept: bool) -> None:
        self.rows, self.codes, self.weights, self.intercept = rows, codes, weights, intercept
        self.total = weights.sum()
        self.k = 1 if n_classes == 2 else n_classes
        self.centre = self.rows.pull(weights[:, None])[:, 0] / self.total if intercept else np.zeros(self.rows.d)
        self.in_memory = isinstance(rows.X, np.ndarray)

    def evaluate(self, W: Array, exact: bool) -> LogisticPoint:
        """Return L and its derivatives at `W`, whose last row is the intercept.

        Without `exact`, products are summed in the precision of the rows.
        """
        dtype = np.dtype(np.float64) if exact else self.rows.X.dtype
        curvature, loss = np.empty(self.rows.n), 0.0
        chances = np.empty((self.rows.n, self.k), dtype) if self.in_memory else None

        def residual(block: slice, scores: NDArray) -> NDArray:
            nonlocal loss
            losses, p, pull, curvature[block] = _losses_and_chances(scores, self.codes[block])
            loss += float(self.weights[block] @ losses)
            if chances is not None:
                chances[block] = p
            return pull

        slope = self._sweep(W, dtype, residual)
        return LogisticPoint(W, loss, slope, curvature, chances, dtype)

    def hessian_dot(self, V: Array, point: LogisticPoint) -> Array:
        """Return the product of the second derivatives of L at a point with `V`."""
        k = self.k

        def weigh(block: slice, scores: NDArray) -> NDArray:
            codes, s = self.codes[block], scores[:, :k]
            if k == 1:
                return s * point.curvature[block, None].astype(s.dtype)
            if point.chances is None:
                p = _losses_and_chances(scores[:, k:], codes)[1]
            else:
                p = point.chances[block]
            # Next to a class that is nearly sure, the others are small differences: float32 would lose them.
            s = s - np.take_along_axis(s, codes[:, None], axis=1)
            s *= p
            s -= p * s.sum(axis=1, keepdims=True)
            return s

        both = V if point.chances is not None or k == 1 else np.hstack([V, point.W])
        return self._sweep(both, point.dtype, weigh)

    def _sweep(self, W: Array, dtype: np.dtype, visit: Callable[[slice, NDArray], NDArray]) -> Array:
        """Return the sums of centred rows, and of a constant 1, weighted by what `visit` makes of their products."""
        shift, sums = (W[-1] - self.centre @ W[:-1]).astype(dtype), np.zeros(self.k)

        def weighted(block: slice, scores: NDArray) -> NDArray:
            pull = visit(block, scores + shift)
            pull *= self.weights[block, None].astype(dtype)
            sums[:] += pull.sum(axis=0, dtype=np.float64)
            return pull

        out = np.empty((len(W), self.k))
        out[:-1] = self.rows.sweep(W[:-1].astype(dtype), weighted)
        out[:-1] -= np.outer(self.centre, sums)
        out[-1] = sums if self.intercept else 0.0
        return out

    def gram(self, weights: Array) -> Array:
        """Return the sum of the products of each centred row with itself, weighted."""
        gram = np.zeros((self.rows.d, self.rows.d))
        self.rows.add_gram(gram, np.arange(self.rows.n), weights, 1.0)
        if self.intercept:
            cross = np.outer(self.centre, self.rows.pull(weights[:, None])[:, 0])
            gram += weights.sum() * np.outer(self.centre, self.centre) - cross - cross.T
        return gram


def _losses_and_chances(scores: NDArray, codes: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return loss (n,), probabilities and derivatives of the loss, of the shape of `scores`, and mean p (1 - p), (n,).

    `scores` has a column for each class, or for two classes only that of class 1. What 1 - p of the own class is, is
    summed over the others: for a large C it decides, however near to 0.
    """
    if scores.shape[1] == 1:
        sign = np.where(codes[:, None] == 1, 1, -1).astype(scores.dtype)
        chances, others = expit(scores), expit(-sign * scores)
        losses = np.logaddexp(0, -sign * scores)[:, 0]
        return losses, chances, -sign * others, (others * expit(sign * scores))[:, 0]
    rows = np.arange(len(codes))
    p = scores - scores.max(axis=1, keepdims=True)
    own = p[rows, codes]
    np.exp(p, out=p)
    top = p[rows, codes]
    p[rows, codes] = 0
    other = p.sum(axis=1)
    total = other + top
    losses = np.where(own == 0, np.log1p(other), np.log(total) - own)
    p /= total[:, None]
    wrong, right = other / total, top / total
    curvature = (np.einsum("ij,ij->i", p, 1 - p) + wrong * right) / p.shape[1]
    pull = p.copy()
    pull[rows, codes], p[rows, codes] = -wrong, right
    return losses, p, pull, curvature
