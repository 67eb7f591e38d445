"""L2-regularised logistic regression on dense rows, binary or multinomial, for many C.

The objective is that of `sklearn.linear_model.LogisticRegression`, with an intercept b that is not penalised:

    P(W, b) = 1/2 |W|^2 + C L(W, b),   L = sum_i r_i loss(y_i, W x_i + b).

Newton's method needs few steps here, and each system is solved by conjugate gradients only as far as it pays: a product
with the second derivatives is two products of all rows with all classes, as is a gradient. Three things make a path
over C cheap. It starts from the tangent: solutions are smooth in log C, so the last two are extended to the next. It is
preconditioned by I + C sum_i h_i x_i x_i^T, the curvature h_i = mean p (1 - p) of all classes, at first the same for
all rows. And the residual in the metric of the preconditioner says how far the optimum still is, without another step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import expit

from cnncodes.errors import RangeError
from cnncodes.solvers.hinge import Solution
from cnncodes.solvers.matrix import Rows
from cnncodes.solvers.newton_system import factorise

__all__ = ["LogisticProblem", "solve_logistic_path"]

Array = NDArray[np.float64]

MAX_HALVINGS = 30
MAX_PRODUCTS = 200  # with the second derivatives, a step
# Times tol: what a solution may lie above the optimum, relative, as estimated; the estimate is low by up to ten times.
OBJECTIVE_GAP = 1e-2
REDUCTION = 0.1  # of the residual of a step
WARM_START_START = (
    100.0  # largest decision value after a step of gradient descent from 0, above which smaller C come first
)
WARM_START_RATIO = 10.0  # between the values of C that lead up to the first one asked for
WARM_START_GAP = 1e-2  # relative: how far from the optimum they may stay
ROUNDING_GAP = {False: 1e-9, True: 1e-14}  # relative: a smaller gain is lost in rounding; by whether sums are float64
SINGLE_TOL = 1e-5  # below it, products of float32 rows are summed in float64 from the start
REBUILD = 0.4  # products, times classes per column, that a preconditioner is used for before it is made anew
STALE = 2.0  # factor by which the curvature may change before the preconditioner is factorised again
FORGET = 0.8  # of the stretch of the step before


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

    def evaluate(self, W: Array, exact: bool) -> _Point:
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
        return _Point(W, loss, slope, curvature, chances, dtype)

    def hessian_dot(self, V: Array, point: _Point) -> Array:
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


def solve_logistic_path(
    problem: LogisticProblem,
    Cs: list[float],
    *,
    start: Array | None = None,
    tol: float = 1e-4,
    max_iter: int = 1000,
) -> list[Solution]:
    """Solve for every C, which must ascend; each solution starts from those before, the first from `start`.

    A solution is one where, as in scikit-learn, no component of the gradient of P / (C sum r_i) is above `tol`, and
    where the objective is estimated to be at most ``OBJECTIVE_GAP * tol`` (relative) above the optimum. On rows that
    can be separated, the first alone would be true of nearly any W for a large C. `W` of a solution has the intercept
    as its last row.
    """
    descent = _Descent(problem, start, tol < SINGLE_TOL, max_iter)
    for C in descent.warm_start_path(Cs[0]):
        descent.solve(C, WARM_START_GAP, np.inf)
    return [descent.solve(C, OBJECTIVE_GAP * tol, tol) for C in Cs]


@dataclass
class _Point:
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


class _Preconditioner:
    """I + C sum_i h_i x_i x_i^T, with curvatures h_i that are not always those of the moment."""

    def __init__(self, problem: LogisticProblem) -> None:
        self.problem, self.used = problem, 0
        self.gram, self.mass = problem.gram(problem.weights), float(problem.total)
        self.level = 0.0

    def prepare(self, point: _Point, C: float) -> None:
        curvature = point.curvature * self.problem.weights
        if self.used * self.problem.k > REBUILD * self.problem.rows.d:
            self.gram, self.mass = self.problem.gram(curvature), max(float(curvature.sum()), np.finfo(float).tiny)
            self.level, self.used = 0.0, 0
        self.flat = C * max(float(curvature.sum()), np.finfo(float).tiny)
        level = max(self.flat / self.mass, 1e-12)
        if not self.level / STALE <= level <= self.level * STALE:
            self.factor, self.level = factorise(self.gram, level, 1.0), level

    def solve(self, gradient: Array) -> Array:
        out = np.empty_like(gradient)
        out[:-1] = lapack.dpotrs(self.factor, gradient[:-1], lower=0)[0]
        out[-1] = gradient[-1] / self.flat
        return out


class _Descent:
    def __init__(self, problem: LogisticProblem, start: Array | None, exact: bool, max_iter: int) -> None:
        self.problem, self.max_iter = problem, max_iter
        self.cold = start is None
        self.first = np.zeros((problem.rows.d + 1, problem.k)) if start is None else start.copy()
        self.first[-1] += problem.centre @ self.first[:-1]
        self.exact = exact or problem.rows.X.dtype != np.float32
        self.solved: deque[tuple[float, _Point]] = deque(maxlen=2)
        self.preconditioner = _Preconditioner(problem)
        self.stretch = np.inf  # how many times the inverse of the preconditioner may fall short of that of the Hessian

    def warm_start_path(self, C: float) -> list[float]:
        """Return smaller values of C, ascending: far from the solution the probabilities change too much in a step."""
        if not self.cold:
            return []
        pull = self.problem.evaluate(self.first, True).slope[:-1]
        reach = float(np.abs(self.problem.rows.scores(pull)).max())
        if not np.isfinite(C * reach):
            raise RangeError
        count = np.log(max(C * reach / WARM_START_START, 1.0)) / np.log(WARM_START_RATIO)
        return [C / WARM_START_RATIO**step for step in range(int(count), 0, -1)]

    def _at(self, W: Array) -> _Point:
        return self.problem.evaluate(W, self.exact)

    def _start(self, C: float) -> _Point:
        if not self.solved:
            return self._at(self.first)
        last_C, last = self.solved[-1]
        if len(self.solved) < 2 or last_C >= C or last_C <= self.solved[0][0]:
            return last
        ahead = np.log(C / last_C) / np.log(last_C / self.solved[0][0])
        tangent = self._at(last.W + ahead * (last.W - self.solved[0][1].W))
        return min(tangent, last, key=lambda point: point.objective(C))

    def solve(self, C: float, gap: float, tol: float) -> Solution:
        point = self._start(C)
        converged, step = False, 0
        for step in range(self.max_iter + 1):
            gradient, value = point.gradient(C), point.objective(C)
            small = bool(np.abs(gradient).max() <= tol * C * self.problem.total)
            self.preconditioner.prepare(point, C)
            z = self.preconditioner.solve(gradient)
            far = 0.5 * float((gradient * z).sum())
            converged = small and self.stretch * far <= gap * value
            if converged or step == self.max_iter:
                break
            # What is left of a step need not be smaller than what may be left in the end.
            move = self._newton_step(point, -gradient, -z, C, max(REDUCTION**2 * far, 0.3 * gap * value * small))
            gain = -0.5 * float((move * gradient).sum())
            lost = gain <= ROUNDING_GAP[self.exact] * value
            search = self._polish if lost and self.exact else self._line_search
            following = None if lost and not self.exact else search(point, move, 2.0 * gain, C)
            if following is None:
                if self.exact:
                    converged = lost and bool(np.isfinite(gain))
                    break
                self.exact = True  # where float32 products can tell no better point from this one, float64 can
                following = self._at(point.W)
            point = following
        self.solved.append((C, point))
        W = point.W.copy()
        W[-1] -= self.problem.centre @ W[:-1]
        k = W.shape[1]
        return Solution(C, W, np.full(k, point.objective(C) / k), np.full(k, step), np.full(k, converged))

    def _line_search(self, point: _Point, move: Array, promised: float, C: float) -> _Point | None:
        value, t = point.objective(C), 1.0
        for _ in range(MAX_HALVINGS):
            following = self._at(point.W + t * move)
            if following.objective(C) <= value - 1e-4 * t * promised:
                return following
            t *= 0.5
        return None

    def _polish(self, point: _Point, move: Array, promised: float, C: float) -> _Point | None:
        """Take a step whose gain is lost in the rounding of the objective, as long as the gradient shows one."""
        following = self._at(point.W + move)
        shrinks = np.abs(following.gradient(C)).max() < 0.5 * np.abs(point.gradient(C)).max()
        return following if shrinks else None

    def _newton_step(self, point: _Point, r: Array, z: Array, C: float, target: float) -> Array:
        """Solve for the step by conjugate gradients, until the rest is estimated to gain no more than `target`."""
        v, d, rz = np.zeros_like(r), z, float((r * z).sum())
        kept = FORGET * self.stretch if np.isfinite(self.stretch) else 0.0
        for _ in range(MAX_PRODUCTS):
            self.preconditioner.used += 1
            Hd = C * self.problem.hessian_dot(d, point)
            Hd[:-1] += d[:-1]
            t = rz / max(float((d * Hd).sum()), np.finfo(float).tiny)
            kept = max(kept, t)  # 1 / t lies within the spectrum of the preconditioned system
            v, r = v + t * d, r - t * Hd
            z = self.preconditioner.solve(r)
            before, rz = rz, float((r * z).sum())
            if not 0.5 * kept * rz > target:
                break
            d = z + rz / before * d
        self.stretch = kept
        return v
