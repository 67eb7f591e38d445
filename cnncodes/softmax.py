"""Newton's method for l2-regularised logistic regression on dense rows, binary or multinomial, for many C.

The objective is that of `sklearn.linear_model.LogisticRegression`, with an intercept b that is not penalised:

    P(W, b) = 1/2 |W|^2 + C sum_i r_i loss(y_i, W x_i + b).

Newton's equations are solved by conjugate gradients, whose products take all classes at once. The rows are centred
(in the products, not in memory), which leaves the intercept next to uncoupled. One eigendecomposition X^T X = V l V^T
then preconditions every step of every class and C: the Hessian of class k is near h_k V l V^T + I, where h_k is the
mean of its curvatures p (1 - p).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import expit, logsumexp

from cnncodes.newton import Rows, Solution

__all__ = ["LogisticProblem", "solve_logistic_path"]

Array = NDArray[np.float64]

FORCING = 0.1  # conjugate gradients end at this share of the residual
MAX_CG = 200
ROUNDING_GAP = 1e-12  # relative: an expected gain below this cannot be told from rounding


@dataclass
class LogisticProblem:
    """Labels and weights of the rows.

    Attributes
    ----------
    X : ndarray of shape (n, d)
    codes : ndarray of int of shape (n,)
    n_classes : int
        2 means one column of coefficients, for class 1.
    weights : ndarray of shape (n,)
        Positive.
    intercept : bool
    """

    X: NDArray
    codes: NDArray
    n_classes: int
    weights: Array
    intercept: bool
    rows: Rows = field(init=False)
    centre: Array = field(init=False)
    target: Array = field(init=False)

    def __post_init__(self) -> None:
        self.rows = Rows(self.X)
        total = self.weights.sum()
        self.centre = self.rows.pull(self.weights[:, None])[:, 0] / total if self.intercept else np.zeros(self.rows.d)
        self.target = (self.codes[:, None] == np.arange(self.n_classes)).astype(np.float64)
        if self.n_classes == 2:
            self.target = self.target[:, 1:]

    def scores(self, W: Array) -> Array:
        """Return the scores of the centred rows; the last row of `W` is the intercept."""
        return self.rows.scores(W[:-1]) + (W[-1] - self.centre @ W[:-1])

    def pull(self, R: Array) -> Array:
        """Return the transposed product; 0 for the intercept where there is none."""
        total = R.sum(axis=0)
        last = total if self.intercept else np.zeros_like(total)
        return np.vstack([self.rows.pull(R) - np.outer(self.centre, total), last])

    def curve(self, V: Array, apply: Curve) -> Array:
        """Return X^T curvature(X V) in the precision of X."""
        dtype = self.X.dtype
        scores = self.X @ V[:-1].astype(dtype) + (V[-1] - self.centre @ V[:-1])
        R = apply(scores)
        total = R.sum(axis=0)
        last = total if self.intercept else np.zeros_like(total)
        return np.vstack([self.X.T @ R.astype(dtype) - np.outer(self.centre, total), last])

    def losses(self, scores: Array) -> Array:
        if self.n_classes == 2:
            return np.logaddexp(0.0, scores[:, 0]) - self.target[:, 0] * scores[:, 0]
        return logsumexp(scores, axis=1) - scores[np.arange(len(scores)), self.codes]

    def probabilities(self, scores: Array) -> Array:
        if self.n_classes == 2:
            return expit(scores)
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


class Curve:
    """The curvature of the weighted losses at given probabilities, as a linear map of scores."""

    def __init__(self, probabilities: Array, weights: Array, binary: bool) -> None:
        self.p, self.weights, self.binary = probabilities, weights[:, None], binary

    def __call__(self, scores: Array) -> Array:
        pulled = self.p * scores
        inner = pulled if self.binary else pulled.sum(axis=1, keepdims=True)
        return self.weights * (pulled - self.p * inner)


def solve_logistic_path(
    problem: LogisticProblem, Cs: list[float], *, tol: float = 1e-4, max_iter: int = 100
) -> list[Solution]:
    """Solve for every C, which must ascend; each solution starts from the one before.

    As in scikit-learn, the solver stops when no component of the gradient of P / (C sum r_i) is above `tol`; besides,
    the last Newton step must promise less than `tol` of the objective. `W` of a solution has the intercept as its
    last row.
    """
    descent = _Descent(problem, tol, max_iter)
    return [descent.solve(C) for C in Cs]


class _Descent:
    def __init__(self, problem: LogisticProblem, tol: float, max_iter: int) -> None:
        self.problem, self.tol, self.max_iter = problem, tol, max_iter
        k = problem.target.shape[1]
        self.W = np.zeros((problem.rows.d + 1, k))
        self.scores = np.zeros_like(problem.target)
        self.total = problem.weights.sum()
        gram = np.zeros((problem.rows.d, problem.rows.d))
        problem.rows.add_gram(gram, np.arange(problem.rows.n), problem.weights, 1.0)
        gram = gram - self.total * np.outer(problem.centre, problem.centre)
        values, self.V = eigh(gram, lower=True, overwrite_a=True, check_finite=False, driver="evd")
        self.values = np.maximum(values, 0.0)

    def _objective(self, W: Array, scores: Array, C: float) -> float:
        losses = self.problem.losses(scores)
        return 0.5 * float((W[:-1] ** 2).sum()) + C * float(self.problem.weights @ losses)

    def solve(self, C: float) -> Solution:
        problem, W = self.problem, self.W
        value = self._objective(W, self.scores, C)
        converged, step = False, 0
        for step in range(self.max_iter + 1):
            p = problem.probabilities(self.scores)
            gradient = C * problem.pull(problem.weights[:, None] * (p - problem.target))
            gradient[:-1] += W[:-1]
            small = np.abs(gradient).max() <= self.tol * C * self.total
            curve = Curve(p, problem.weights, problem.n_classes == 2)
            if step == self.max_iter:
                break
            move = self._newton_step(gradient, curve, p, C)
            slope = float((move * gradient).sum())
            if -slope <= ROUNDING_GAP * value or (small and -0.5 * slope <= self.tol * value):
                converged = True
                break
            change = problem.scores(move)
            t, value = self._line_search(move, change, slope, value, C)
            if t == 0.0:
                break
            self.W = W = W + t * move
            self.scores = self.scores + t * change
        k = W.shape[1]
        W = W.copy()
        W[-1] -= problem.centre @ W[:-1]
        return Solution(C, W, np.full(k, value / k), np.full(k, step), np.full(k, converged))

    def _line_search(self, move: Array, change: Array, slope: float, value: float, C: float) -> tuple[float, float]:
        t = 1.0
        for _ in range(40):
            tried = self._objective(self.W + t * move, self.scores + t * change, C)
            if tried <= value + 1e-4 * t * slope:
                return t, tried
            t *= 0.5
        return 0.0, value

    def _newton_step(self, gradient: Array, curve: Curve, p: Array, C: float) -> Array:
        """Solve H move = -gradient by preconditioned conjugate gradients."""
        h = C * (self.problem.weights @ (p * (1 - p))) / self.total  # (k,)
        h = np.maximum(h, 1e-12 * C)

        def precondition(r: Array) -> Array:
            out = np.empty_like(r)
            out[:-1] = self.V @ ((self.V.T @ r[:-1]) / (1.0 + self.values[:, None] * h))
            out[-1] = r[-1] / (h * self.total)
            return out

        v, r = np.zeros_like(gradient), -gradient
        z = precondition(r)
        d, rz = z, float((r * z).sum())
        start = rz
        for _ in range(MAX_CG):
            Hd = C * self.problem.curve(d, curve)
            Hd[:-1] += d[:-1]
            curvature = float((d * Hd).sum())
            if curvature <= 0:
                break
            v, r = v + (rz / curvature) * d, r - (rz / curvature) * Hd
            z = precondition(r)
            before, rz = rz, float((r * z).sum())
            if rz <= FORCING**2 * start:
                break
            d = z + (rz / before) * d
        return v if v.any() else z
