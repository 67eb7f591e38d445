"""Newton's method for the l2-regularised squared hinge loss on dense rows, for all classes and many C.

The objective, which `hinge` states, is quadratic as long as the active set A = {i: s_i w.x_i < 1} stays the same. So
Newton's method with an exact line search ends after a few steps (Keerthi and DeCoste 2005), and what it costs is the
solution of

    (I + 2 C sum_A r_i x_i x_i^T) v = g.

While most rows are active, that is done for all classes together by conjugate gradients, preconditioned by the matrix
of all rows; afterwards by factorisation, class by class.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from cnncodes.errors import RangeError
from cnncodes.solvers.hinge import HingeProblem, line_search
from cnncodes.solvers.linear_path import Solution
from cnncodes.solvers.newton_system import SAMPLE_FORM, Curvature, factorise

__all__ = ["solve_hinge_path"]

Array = NDArray[np.float64]

OBJECTIVE_GAP = 1e-7  # relative: what a solution may lie above the optimum
WARM_START_RATIO = 10.0  # between the values of C that lead up to the first one asked for
WARM_START_FROM = 1e4  # times the C at which margins first reach 1; from 0, Newton's method reaches it in few steps
WARM_START_GAP = 0.1  # relative: how far from the optimum they may stay
ROUNDING_GAP = 1e-13  # relative: an expected gain below this cannot be told from rounding
# A larger C, times the sum of all squared entries (which no eigenvalue of the products exceeds), is not solved with
# products in float32, whose rounding outweighs the penalty: for 10,000 codes it took 33 steps instead of 1 at C = 560.
SINGLE_C = 8e7


def solve_hinge_path(
    problems: Iterable[HingeProblem], Cs: list[float], *, tol: float = 1e-4, max_iter: int = 1000
) -> list[Solution]:
    """Solve for every C, which must ascend; each solution starts from the one before.

    The problems are of different classes, on the same rows; they are solved one after the other.

    A class is done when its gradient is as small as liblinear's primal solver demands at the same `tol`, and its
    objective is at most ``OBJECTIVE_GAP`` (relative) above the optimum.
    """
    shared: Curvature | None = None
    solved = []
    for problem in problems:
        shared = shared or Curvature(problem.rows)
        solved.append(_Descent(problem, shared, tol, max_iter).run(Cs))
    return [_join(solutions) for solutions in zip(*solved, strict=True)]


def _join(solutions: tuple[Solution, ...]) -> Solution:
    names = ("objective", "n_iter", "converged")
    return Solution(
        solutions[0].C,
        np.concatenate([s.W for s in solutions], axis=1),
        *(np.concatenate([getattr(s, name) for s in solutions]) for name in names),
    )


class _Descent:
    """Newton's method with an exact line search, on the classes of one problem together.

    `run` calls `_solve` for each C, ascending, after those of `_warm_start_path`. A step is `_evaluate`, `_newton_step`
    and `_move`; a class that is done leaves the step that the others still take.

    Attributes
    ----------
    W : ndarray of shape (p, k)
        Weights of the moment.
    margins : ndarray of shape (n, k)
        s_i w.x_i, kept up to date with `W`.
    shared : Curvature
        The system in which all rows are active; classes share it.
    curvatures : list of Curvature
        The system of each class.
    iterative : bool
        Whether conjugate gradients still pay; after they have failed once, systems are factorised.
    gradient_bound : ndarray of shape (k,)
        Norm of the gradient, over C, at which liblinear would stop.

    References
    ----------
    Keerthi, DeCoste: A modified finite Newton method for fast solution of large scale linear SVMs. JMLR 6, 2005.
    """

    def __init__(self, problem: HingeProblem, shared: Curvature, tol: float, max_iter: int) -> None:
        self.problem, self.max_iter = problem, max_iter
        n, k = problem.signs.shape
        if problem.start is None:
            self.W, self.margins = np.zeros((problem.rows.p, k)), np.zeros((n, k))
        else:
            self.W = problem.start.copy()
            self.margins = problem.margins(self.W)
        self.base = problem.weights.min(axis=1)
        self.shared = shared
        self.iterative = True
        self.expected = 0
        self.curvatures = [Curvature(problem.rows) for _ in range(k)]
        # Half the gradient at w = 0, over C; liblinear's stopping rule is relative to the gradient there.
        self.pull = problem.rows.pull(problem.weights * problem.signs)
        self.gradient_bound = 2.0 * tol * problem.balance() * np.linalg.norm(self.pull, axis=0)

    def run(self, Cs: list[float]) -> list[Solution]:
        for C in self._warm_start_path(Cs[0]):
            self._solve(C, WARM_START_GAP)
        return [self._solve(C, OBJECTIVE_GAP) for C in Cs]

    def _warm_start_path(self, C: float) -> list[float]:
        """Return smaller values of C, ascending: from w = 0 straight to a large C the active set changes too often."""
        if self.problem.start is not None:
            return []
        reach = 2.0 * np.abs(self.problem.rows.scores(self.pull)).max()
        if not np.isfinite(C * reach):
            raise RangeError
        count = np.log(max(C * reach / WARM_START_FROM, 1.0)) / np.log(WARM_START_RATIO)
        return [C / WARM_START_RATIO**step for step in range(int(count), 0, -1)]

    def _solve(self, C: float, gap: float) -> Solution:
        problem = self.problem
        if problem.rows.single and C * problem.rows.squares > SINGLE_C:
            problem.rows.single = False
            for curvature in (self.shared, *self.curvatures):
                curvature.forget()
        k = problem.signs.shape[1]
        n_iter, converged, objective = np.zeros(k, dtype=np.intp), np.zeros(k, dtype=bool), np.zeros(k)
        open_ = np.arange(k)
        for step in range(self.max_iter + 1):
            value, gradient, slack = self._evaluate(open_, C)
            objective[open_], n_iter[open_] = value, step
            norm = np.linalg.norm(gradient, axis=0)
            small = (norm <= C * self.gradient_bound[open_]) | (gap > OBJECTIVE_GAP)
            done = small & (0.5 * norm**2 <= gap * value)  # P is 1-strongly convex
            converged[open_] = done
            open_, value, small = open_[~done], value[~done], small[~done]
            gradient, slack = gradient[:, ~done], slack[:, ~done]
            if not len(open_) or step == self.max_iter:
                break
            move = self._newton_step(open_, gradient, slack, C, 0.1 if gap > OBJECTIVE_GAP else 1e-4)
            gain = -0.5 * (move * gradient).sum(axis=0)  # what the quadratic model promises
            done = (gain <= ROUNDING_GAP * value) | (small & (gain <= 0.1 * gap * value))
            converged[open_] = done
            open_, move = open_[~done], move[:, ~done]
            if not len(open_):
                break
            self._move(open_, move, C)
        return Solution(C, self.W.copy(), objective, n_iter, converged)

    def _evaluate(self, classes: NDArray, C: float) -> tuple[Array, Array, Array]:
        """Return objective, gradient and slack max(0, 1 - margin) of some classes."""
        W, signs, weights = self.W[:, classes], self.problem.signs[:, classes], self.problem.weights_of(classes)
        slack = np.maximum(1.0 - self.margins[:, classes], 0.0)
        force = weights * slack
        value = 0.5 * (W * W).sum(axis=0) + C * (force * slack).sum(axis=0)
        force *= signs
        return value, W - 2.0 * C * self.problem.rows.pull(force), slack

    def _newton_step(self, classes: NDArray, gradient: Array, slack: Array, C: float, precision: float) -> Array:
        """Return -H^-1 gradient for some classes."""
        move = np.empty_like(gradient)
        active = (slack > 0) * self.problem.weights_of(classes)
        full = (active == self.base[:, None]).all(axis=0)
        if full.any():
            move[:, full] = -self.shared.solve(self.base, C, gradient[:, full])
        long = ~full & (np.count_nonzero(active, axis=0) > SAMPLE_FORM * self.problem.rows.p)
        if long.any() and self._iterations_pay(classes[long], active[:, long], precision):
            move[:, long], reached = self._conjugate_gradients(gradient[:, long], active[:, long], C, precision)
            self.iterative = reached
            full |= long
        for i in np.flatnonzero(~full):
            curvature = self.curvatures[classes[i]]
            move[:, [i]] = -curvature.solve(np.ascontiguousarray(active[:, i]), C, gradient[:, [i]], self.shared)
        return move

    def _iterations_pay(self, classes: NDArray, active: Array, precision: float) -> bool:
        """Whether conjugate gradients for all `classes` together should be cheaper than a factorisation for each."""
        if not self.iterative:
            return False
        rows, k = self.problem.rows, len(classes)
        changes = sum(self.curvatures[c].nearest(a, self.shared)[0] for c, a in zip(classes, active.T, strict=True))
        direct = changes * rows.p**2 + k * rows.p**3 / 3
        # Of m random rows, the spectrum of the products relative to that of all rows lies in (1 +- sqrt(p / m))^2.
        ratio = np.sqrt(rows.p / np.count_nonzero(active, axis=0).min())
        root = (1 + ratio) / max(1 - ratio, 0.02)
        self.expected = int(np.ceil(0.5 * root * np.log(2 / precision))) + 2
        # Products with few columns run below the speed of a factorisation, those of float32 at up to twice that speed.
        product = 4 * rows.n * rows.p * (0.5 * k + 12) * (1.0 if rows.single else 2.0)
        return self.expected * product + rows.p**3 < direct

    def _conjugate_gradients(self, g: Array, active: Array, C: float, precision: float) -> tuple[Array, bool]:
        """Solve for all classes together, preconditioned by the matrix of all rows, scaled to the active ones."""
        rows = self.problem.rows
        if self.shared.gram is None:
            self.shared.solve(self.base, C, g[:, :1])
        assert self.shared.gram is not None
        share = active.sum() / (self.base.sum() * active.shape[1])
        factor = factorise(self.shared.gram, 2.0 * C * share, 1.0)
        v, r = np.zeros_like(g), -g
        z = lapack.dpotrs(factor, r, lower=0)[0]
        d, rz = z, (r * z).sum(axis=0)
        start = rz.copy()
        for _ in range(3 * self.expected):
            Hd = d + 2.0 * C * rows.hessian_dot(d, active)
            step = rz / np.maximum((d * Hd).sum(axis=0), np.finfo(float).tiny)
            v, r = v + step * d, r - step * Hd
            z = lapack.dpotrs(factor, r, lower=0)[0]
            before, rz = rz, (r * z).sum(axis=0)
            if (rz <= precision**2 * start).all():
                return v, True
            d = z + np.where(before > 0, rz / np.maximum(before, np.finfo(float).tiny), 0.0) * d
        return v, False

    def _move(self, classes: NDArray, move: Array, C: float) -> None:
        W, before = self.W[:, classes], self.margins[:, classes]
        target = W + move
        after = self.problem.margins(target, classes)
        t = line_search(W, move, before, after - before, C * self.problem.weights_of(classes))
        self.W[:, classes] = np.where(t == 1.0, target, W + t * move)
        self.margins[:, classes] = np.where(t == 1.0, after, before + t * (after - before))
