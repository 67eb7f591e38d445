"""Newton's method for l2-regularised logistic regression, for many C.

Newton's method needs few steps here, and each system is solved by conjugate gradients only as far as it pays: a product
with the second derivatives is two products of all rows with all classes, as is a gradient. Three things make a path
over C cheap. It starts from the tangent: solutions are smooth in log C, so the last two are extended to the next. It is
preconditioned by I + C sum_i h_i x_i x_i^T, the curvature h_i = mean p (1 - p) of all classes, at first the same for
all rows. And the residual in the metric of the preconditioner says how far the optimum still is, without another step.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from cnncodes.errors import RangeError
from cnncodes.solvers.linear_path import Solution
from cnncodes.solvers.logistic import LogisticPoint, LogisticProblem
from cnncodes.solvers.newton_system import factorise

__all__ = ["solve_logistic_path"]

Array = NDArray[np.float64]

MAX_HALVINGS = 30
MAX_PRODUCTS = 200  # products with the second derivatives in a step
# Times tol: what a solution may lie above the optimum, relative, as estimated; the estimate is low by up to ten times.
OBJECTIVE_GAP = 1e-2
REDUCTION = 0.1  # factor by which conjugate gradients reduce the residual in a step
# Largest decision value after a step of gradient descent from 0, above which smaller values of C are solved first
WARM_START_FROM = 100.0
WARM_START_RATIO = 10.0  # between the values of C that lead up to the first one asked for
WARM_START_GAP = 1e-2  # relative: how far from the optimum they may stay
ROUNDING_GAP = {False: 1e-9, True: 1e-14}  # relative: a smaller gain is lost in rounding; by whether sums are float64
SINGLE_TOL = 1e-5  # below it, products of float32 rows are summed in float64 from the start
PRODUCTS_TO_REBUILD = 0.4  # per column and class: after so many products, the preconditioner is made anew
MAX_LEVEL_CHANGE = 2.0  # factor by which the curvature may change before the preconditioner is factorised again
STRETCH_KEPT = 0.8  # share of the last stretch that a step begins with


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


class _Preconditioner:
    """I + C sum_i h_i x_i x_i^T, with curvatures h_i that are not always those of the moment."""

    def __init__(self, problem: LogisticProblem) -> None:
        self.problem, self.used = problem, 0
        self.gram, self.mass = problem.gram(problem.weights), float(problem.total)
        self.level = 0.0

    def prepare(self, point: LogisticPoint, C: float) -> None:
        curvature = point.curvature * self.problem.weights
        if self.used * self.problem.k > PRODUCTS_TO_REBUILD * self.problem.rows.d:
            self.gram, self.mass = self.problem.gram(curvature), max(float(curvature.sum()), np.finfo(float).tiny)
            self.level, self.used = 0.0, 0
        self.flat = C * max(float(curvature.sum()), np.finfo(float).tiny)
        level = max(self.flat / self.mass, 1e-12)
        if not self.level / MAX_LEVEL_CHANGE <= level <= self.level * MAX_LEVEL_CHANGE:
            self.factor, self.level = factorise(self.gram, level, 1.0), level

    def solve(self, gradient: Array) -> Array:
        out = np.empty_like(gradient)
        out[:-1] = lapack.dpotrs(self.factor, gradient[:-1], lower=0)[0]
        out[-1] = gradient[-1] / self.flat
        return out


class _Descent:
    """Newton's method with a line search, for one C after the other.

    Each step minimises the quadratic model g.v + 1/2 v.Hv, with H = I + C L'', by preconditioned conjugate gradients.
    `warm_start_path` gives the values of C that lead up to the first; `solve` is then called for them and for those
    asked for, ascending. It calls, for each C, `_start` once; in each step `_newton_step`, then `_line_search`, or
    `_polish` where the gain of a step is lost in rounding.

    Attributes
    ----------
    solved : deque of (float, LogisticPoint)
        The last two solutions, from which the next one starts.
    preconditioner : _Preconditioner
    exact : bool
        Whether products are summed in float64. Once it is needed, it stays.
    stretch : float
        How many times the inverse of the preconditioner may fall short of that of the Hessian: it turns the residual
        into an estimate of the distance to the optimum.

    References
    ----------
    Nocedal, Wright: Numerical Optimization, 2nd edition, chapter 7.1 (Newton's method with conjugate gradients).
    """

    def __init__(self, problem: LogisticProblem, start: Array | None, exact: bool, max_iter: int) -> None:
        self.problem, self.max_iter = problem, max_iter
        self.cold = start is None
        self.first = np.zeros((problem.rows.d + 1, problem.k)) if start is None else start.copy()
        self.first[-1] += problem.centre @ self.first[:-1]
        self.exact = exact or problem.rows.X.dtype != np.float32
        self.solved: deque[tuple[float, LogisticPoint]] = deque(maxlen=2)
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
        count = np.log(max(C * reach / WARM_START_FROM, 1.0)) / np.log(WARM_START_RATIO)
        return [C / WARM_START_RATIO**step for step in range(int(count), 0, -1)]

    def _at(self, W: Array) -> LogisticPoint:
        return self.problem.evaluate(W, self.exact)

    def _start(self, C: float) -> LogisticPoint:
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
            # The residual of a step need not be smaller than the one that may be left in the end.
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

    def _line_search(self, point: LogisticPoint, move: Array, promised: float, C: float) -> LogisticPoint | None:
        value, t = point.objective(C), 1.0
        for _ in range(MAX_HALVINGS):
            following = self._at(point.W + t * move)
            if following.objective(C) <= value - 1e-4 * t * promised:
                return following
            t *= 0.5
        return None

    def _polish(self, point: LogisticPoint, move: Array, promised: float, C: float) -> LogisticPoint | None:
        """Take a step whose gain is lost in the rounding of the objective, as long as the gradient shows one."""
        following = self._at(point.W + move)
        shrinks = np.abs(following.gradient(C)).max() < 0.5 * np.abs(point.gradient(C)).max()
        return following if shrinks else None

    def _newton_step(self, point: LogisticPoint, r: Array, z: Array, C: float, target: float) -> Array:
        """Solve for the step by conjugate gradients, until the rest is estimated to gain no more than `target`."""
        v, d, rz = np.zeros_like(r), z, float((r * z).sum())
        kept = STRETCH_KEPT * self.stretch if np.isfinite(self.stretch) else 0.0
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
