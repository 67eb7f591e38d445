"""L2-regularised logistic regression on dense rows, binary or multinomial, for many C.

The objective is that of `sklearn.linear_model.LogisticRegression`, with an intercept b that is not penalised:

    P(W, b) = 1/2 |W|^2 + C L(W, b),   L = sum_i r_i loss(y_i, W x_i + b).

Three things make a path over C cheap with L-BFGS, where each step is two products of all rows with all classes.
It starts from the tangent: solutions are smooth in log C, so the last two are extended to the next. It is
preconditioned by I + C h X^T X, with the mean curvature h = mean p (1 - p) of all classes. And it remembers: the
curvature pairs are kept for L alone, whence those of P follow for the next C as well.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import expit

from cnncodes.curvature import factorise
from cnncodes.newton import Solution
from cnncodes.rows import Rows

__all__ = ["LogisticProblem", "solve_logistic_path"]

Array = NDArray[np.float64]

MEMORY = 20  # pairs
MAX_HALVINGS = 30
ROUNDING_GAP = {False: 1e-9, True: 1e-14}  # relative: a smaller gain is lost in rounding; by whether sums are float64
SINGLE_TOL = 1e-5  # below it, products of float32 rows are summed in float64 from the start


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
        self.gram = np.zeros((self.rows.d, self.rows.d))
        self.rows.add_gram(self.gram, np.arange(self.rows.n), weights, 1.0)
        self.gram -= self.total * np.outer(self.centre, self.centre)

    def evaluate(self, W: Array, exact: bool) -> tuple[float, Array, float]:
        """Return L, its gradient, and the mean curvature at `W`, whose last row is the intercept.

        Without `exact`, products are summed in the precision of the rows.
        """
        rows, dtype = self.rows, np.dtype(np.float64) if exact else self.rows.X.dtype
        shift = (W[-1] - self.centre @ W[:-1]).astype(dtype)
        gradient, sums = np.zeros_like(W), np.zeros(self.k)
        loss = curvature = 0.0

        def residual(block: slice, scores: NDArray) -> NDArray:
            nonlocal loss, curvature
            codes, weights = self.codes[block], self.weights[block]
            losses, p = _losses_and_chances(scores + shift, codes)
            loss += float(weights @ losses)
            curvature += float(weights @ np.einsum("ij,ij->i", p, 1 - p))
            if self.k == 1:
                p[:, 0] -= codes
            else:
                p[np.arange(len(codes)), codes] -= 1
            p *= weights[:, None].astype(dtype)
            sums[:] += p.sum(axis=0, dtype=np.float64)
            return p

        gradient[:-1] = rows.sweep(W[:-1].astype(dtype), residual)
        gradient[:-1] -= np.outer(self.centre, sums)
        if self.intercept:
            gradient[-1] = sums
        return loss, gradient, curvature / (self.total * self.k)


def _losses_and_chances(scores: NDArray, codes: NDArray) -> tuple[NDArray, NDArray]:
    """Return the loss of each row, (n,), and the probabilities, of the shape of `scores`, which are overwritten.

    `scores` has a column for each class, or for two classes only that of class 1.
    """
    if scores.shape[1] == 1:
        return np.logaddexp(0, scores[:, 0]) - codes * scores[:, 0], expit(scores)
    scores -= scores.max(axis=1, keepdims=True)
    own = np.take_along_axis(scores, codes[:, None], axis=1)[:, 0]
    p = np.exp(scores, out=scores)
    sums = p.sum(axis=1, keepdims=True)
    losses = np.log(sums[:, 0]) - own
    p /= sums
    return losses, p


def solve_logistic_path(
    problem: LogisticProblem,
    Cs: list[float],
    *,
    start: Array | None = None,
    tol: float = 1e-4,
    max_iter: int = 1000,
) -> list[Solution]:
    """Solve for every C, which must ascend; each solution starts from those before, the first from `start`.

    As in scikit-learn, a solution is one where no component of the gradient of P / (C sum r_i) is above `tol`. `W` of
    a solution has the intercept as its last row.
    """
    descent = _Descent(problem, start, tol, max_iter)
    return [descent.solve(C) for C in Cs]


@dataclass
class _Point:
    """L and its gradient at W."""

    W: Array
    loss: float
    slope: Array
    curvature: float

    def objective(self, C: float) -> float:
        return 0.5 * float((self.W[:-1] ** 2).sum()) + C * self.loss

    def gradient(self, C: float) -> Array:
        gradient = C * self.slope
        gradient[:-1] += self.W[:-1]
        return gradient


class _Descent:
    def __init__(self, problem: LogisticProblem, start: Array | None, tol: float, max_iter: int) -> None:
        self.problem, self.tol, self.max_iter = problem, tol, max_iter
        self.first = np.zeros((problem.rows.d + 1, problem.k)) if start is None else start.copy()
        self.first[-1] += problem.centre @ self.first[:-1]
        single = problem.rows.X.dtype == np.float32
        self.exact = not single or tol < SINGLE_TOL
        self.solved: deque[tuple[float, _Point]] = deque(maxlen=2)
        self.pairs: deque[tuple[Array, Array]] = deque(maxlen=MEMORY)  # changes of W, and of the gradient of L

    def _at(self, W: Array) -> _Point:
        return _Point(W, *self.problem.evaluate(W, self.exact))

    def _start(self, C: float) -> _Point:
        if not self.solved:
            return self._at(self.first)
        last_C, last = self.solved[-1]
        if len(self.solved) < 2 or last_C >= C or last_C <= self.solved[0][0]:
            return last
        ahead = np.log(C / last_C) / np.log(last_C / self.solved[0][0])
        tangent = self._at(last.W + ahead * (last.W - self.solved[0][1].W))
        return min(tangent, last, key=lambda point: point.objective(C))

    def solve(self, C: float) -> Solution:
        point = self._start(C)
        factor: Array | None = None
        converged, step = False, 0
        for step in range(self.max_iter + 1):
            gradient = point.gradient(C)
            converged = bool(np.abs(gradient).max() <= self.tol * C * self.problem.total)
            if converged or step == self.max_iter:
                break
            if factor is None:
                level = C * max(point.curvature, 1e-9)
                factor = factorise(self.problem.gram, level, 1.0)
            move = self._direction(gradient, factor, level, C)
            lost = -(move * gradient).sum() <= ROUNDING_GAP[self.exact] * point.objective(C)
            following = None if lost else self._line_search(point, move, gradient, C)
            if following is None:
                if self.exact:
                    converged = bool(lost)
                    break
                self.exact = True  # where float32 products can tell no better point from this one, float64 can
                self.pairs.clear()
                point = self._at(point.W)
                continue
            change = following.W - point.W, following.slope - point.slope
            if (change[0] * change[1]).sum() > 0:
                self.pairs.append(change)
            point = following
        self.solved.append((C, point))
        W = point.W.copy()
        W[-1] -= self.problem.centre @ W[:-1]
        k = W.shape[1]
        return Solution(C, W, np.full(k, point.objective(C) / k), np.full(k, step), np.full(k, converged))

    def _line_search(self, point: _Point, move: Array, gradient: Array, C: float) -> _Point | None:
        promised, value = float((move * gradient).sum()), point.objective(C)
        t = 1.0
        for _ in range(MAX_HALVINGS):
            following = self._at(point.W + t * move)
            if following.objective(C) <= value + 1e-4 * t * promised:
                return following
            t *= 0.5
        return None

    def _direction(self, gradient: Array, factor: Array, level: float, C: float) -> Array:
        """The two loops of L-BFGS (Nocedal and Wright, algorithm 7.4), around the preconditioner."""

        def precondition(q: Array) -> Array:
            out = np.empty_like(q)
            out[:-1] = lapack.dpotrs(factor, q[:-1], lower=0)[0]
            out[-1] = q[-1] / (level * self.problem.total)
            return out

        q, coefficients, pairs = gradient.copy(), [], []
        for s, slope in self.pairs:
            y = C * slope
            y[:-1] += s[:-1]
            pairs.append((s, y, float((s * y).sum())))
        for s, y, sy in reversed(pairs):
            coefficients.append(float((s * q).sum()) / sy)
            q -= coefficients[-1] * y
        q = precondition(q)
        if pairs:
            _, y, sy = pairs[-1]
            q *= sy / float((y * precondition(y)).sum())
        for (s, y, sy), coefficient in zip(pairs, reversed(coefficients), strict=True):
            q += (coefficient - float((y * q).sum()) / sy) * s
        return -q
