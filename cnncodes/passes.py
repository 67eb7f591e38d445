"""Linear classifiers on rows that memory does not hold: scikit-learn's objectives, minimised in passes over chunks.

The solution for a sample of the rows is where the descent starts. One pass gives the second derivatives there (where
there are too many columns for that, those of the sample stand in for them), and each further pass objective and
gradient at a point: a step of L-BFGS around the second derivatives. One-vs-rest problems step each at its own pace, but
all in the same passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from cnncodes.curvature import Curvature, factorise
from cnncodes.newton import CURVATURE_BYTES
from cnncodes.rows import Rows
from cnncodes.softmax import MEMORY, direction, losses_and_chances
from cnncodes.solvers import fit_path, one_vs_rest

__all__ = ["ChunkedFit", "fit_in_passes"]

Array = NDArray[np.float64]
Solver = Callable[[Array], Array]
Chunks = Callable[[], Iterable[tuple[NDArray, NDArray]]]

GAP = 1e-7  # relative: what the objective may lie above the optimum, by the quadratic model
DECREASE = 1e-4  # of the promised gain, that a step must bring
RENEWED = 8  # passes, after which the second derivatives are taken anew
SHORTEST = 1e-3  # of a step; where even that brings no gain, it is lost in rounding


@dataclass(frozen=True)
class ChunkedFit:
    """A linear classifier.

    Attributes
    ----------
    coef : ndarray of float64, shape (k, n_features)
        `k` is 1 for two classes.
    intercept : ndarray of float64, shape (k,)
    objective : float
        One-vs-rest problems are summed.
    n_passes : int
        Over all rows.
    converged : bool
    """

    coef: Array
    intercept: Array
    objective: float
    n_passes: int
    converged: bool


def fit_in_passes(
    chunks: Chunks,
    n: int,
    sample: NDArray,
    sample_codes: NDArray,
    *,
    C: float,
    loss: str,
    of_class: Array,
    max_passes: int,
) -> ChunkedFit:
    """Fit a linear classifier, with an intercept, to all rows of some chunks.

    Parameters
    ----------
    chunks : callable
        Begins a pass: gives pairs of rows, float32 of shape (m, n_features), and their classes as numbers from 0 on.
    n : int
        Rows of a pass.
    sample : ndarray of shape (m, n_features)
        Some of these rows, of every class some.
    sample_codes : ndarray of int, shape (m,)
        Their classes.
    C : float
    loss : {"squared_hinge", "log_loss"}
        The objective of `sklearn.svm.LinearSVC`, or that of `sklearn.linear_model.LogisticRegression`.
    of_class : ndarray of shape (n_classes,)
        Weights of the classes.
    max_passes : int

    Returns
    -------
    ChunkedFit
    """
    share = n / len(sample)
    path = fit_path(sample, sample_codes, [C * share], loss=loss, class_weight=dict(enumerate(of_class)))
    coef, intercept = path.coefficients(0)
    kind = _Hinges if loss == "squared_hinge" else _Softmax
    objective = kind(chunks, C, of_class)
    W = np.vstack([coef.T, intercept])
    of_sample = _sample_curvature(objective, W, Rows(sample, 1.0), sample_codes, C * share)
    descents = [_Descent(part, of_sample) for part in np.split(W, W.shape[1] if kind is _Hinges else 1, axis=1)]
    n_passes = 0
    while n_passes < max_passes and not all(descent.done for descent in descents):
        if any(descent.lost for descent in descents):
            if objective.dtype == np.float64:
                break
            objective.dtype = np.dtype(np.float64)
            descents = [_Descent(descent.W, descent.precondition) for descent in descents]
        values, gradient = objective.evaluate(np.hstack([descent.trial for descent in descents]))
        at = 0
        for descent, value in zip(descents, values.tolist(), strict=True):
            width = descent.trial.shape[1]
            descent.tell(value, gradient[:, at : at + width])
            at += width
        n_passes += 1
        if n_passes % RENEWED == 1 and n_passes < max_passes and 8 * len(W) ** 2 <= CURVATURE_BYTES:
            solvers = objective.curvatures(np.hstack([descent.W for descent in descents]))
            n_passes += 1
            for i, descent in enumerate(descents):
                descent.renew(solvers if kind is _Softmax else [solvers[i % len(solvers)]])
    W = np.hstack([descent.W for descent in descents])
    return ChunkedFit(
        np.ascontiguousarray(W[:-1].T),
        W[-1].copy(),
        float(sum(descent.value for descent in descents)),
        n_passes,
        all(descent.done for descent in descents),
    )


class _Descent:
    """L-BFGS that is told value and gradient at `trial`, and then says where the next `trial` is."""

    def __init__(self, W: Array, precondition: Solver) -> None:
        self.W, self.precondition = W, precondition
        self.trial, self.value, self.gradient = W, np.inf, np.zeros_like(W)
        self.move, self.t, self.promised = np.zeros_like(W), 1.0, 0.0
        self.pairs: deque[tuple[Array, Array]] = deque(maxlen=MEMORY)
        self.done = self.lost = False

    def tell(self, value: float, gradient: Array) -> None:
        if self.done:
            return
        if not value <= self.value + DECREASE * self.t * self.promised:
            self.t *= 0.5
            self.lost = self.t < SHORTEST
            self.trial = self.W + self.t * self.move
            return
        change = self.trial - self.W, gradient - self.gradient
        if np.isfinite(self.value) and (change[0] * change[1]).sum() > 0:
            self.pairs.append(change)
        self.W, self.value, self.gradient = self.trial, value, gradient
        self._aim()

    def renew(self, solvers: list[Solver]) -> None:
        """Go on from `W` with the second derivatives there: of each column, or one for all."""
        if self.done:
            return
        self.precondition = solvers[0] if len(solvers) == 1 else _columnwise(solvers)
        self.pairs.clear()
        self._aim()

    def _aim(self) -> None:
        gradient, value = self.gradient, self.value
        self.move, self.t = direction(gradient, self.pairs, self.precondition), 1.0
        self.promised = float((self.move * gradient).sum())
        self.done = -0.5 * self.promised <= GAP * value
        self.trial = self.W if self.done else self.W + self.move


class _Objective(ABC):
    """An objective over all chunks; the last row of `W`, shape (n_features + 1, k), is the intercept."""

    penalised_intercept: bool

    def __init__(self, chunks: Chunks, C: float, of_class: Array) -> None:
        self.chunks, self.C, self.of_class = chunks, C, of_class
        self.dtype: np.dtype = np.dtype(np.float32)  # of the products of a chunk; chunks are summed in float64

    @abstractmethod
    def norms(self, W: Array) -> Array:
        """Return the penalties of the problems."""

    @abstractmethod
    def losses(self, scores: NDArray, codes: NDArray) -> tuple[Array | float, NDArray]:
        """Return the losses of the problems, and their derivatives by the scores, of the shape of `scores`."""

    @abstractmethod
    def bends(self, scores: NDArray, codes: NDArray, n_problems: int) -> NDArray:
        """Return the second derivatives by the scores, (m, k): of each problem, or one mean for all where k is 1."""

    def curvatures(self, W: Array) -> list[Solver]:
        """Return, by problem or one for all, what solves H v = g with the second derivatives H at `W`, in one pass."""
        n_problems = W.shape[1] if W.size * len(W) * 8 <= CURVATURE_BYTES else 1
        grams: list[Array] = []
        for X, codes in self.chunks():
            rows = np.column_stack([X, np.ones(len(X), X.dtype)])
            roots = np.sqrt(self.bends(rows @ W.astype(X.dtype), codes, n_problems)).astype(X.dtype)
            grams = grams or [np.zeros((len(W), len(W))) for _ in roots.T]
            for gram, root in zip(grams, roots.T, strict=True):
                bent = np.flatnonzero(root)
                weighted = rows[bent] * root[bent, None]
                gram += weighted.T @ weighted
        return [_solver(factorise(grams.pop(0), self.C, 1.0)) for _ in range(len(grams))]

    def evaluate(self, W: Array) -> tuple[Array, Array]:
        """Return the values of the problems, and their gradients side by side."""
        penalised = W.copy()
        penalised[-1] *= self.penalised_intercept
        losses: Array | float = 0.0
        gradient = np.zeros_like(W)
        single = W.astype(self.dtype)
        for rows, codes in self.chunks():
            X = rows.astype(self.dtype, copy=False)
            scores = X @ single[:-1]
            scores += single[-1]
            loss, force = self.losses(scores, codes)
            losses = losses + loss
            gradient[:-1] += X.T @ force.astype(self.dtype)
            gradient[-1] += force.sum(axis=0, dtype=np.float64)
        return self.norms(penalised) + self.C * losses, penalised + self.C * gradient


class _Hinges(_Objective):
    """The squared hinge losses of one-vs-rest problems; the intercept is penalised."""

    penalised_intercept = True

    def norms(self, W: Array) -> Array:
        return 0.5 * (W * W).sum(axis=0)

    def losses(self, scores: NDArray, codes: NDArray) -> tuple[Array, Array]:
        problem = one_vs_rest(Rows(scores), codes, np.ones(len(codes)), self.of_class)
        slack = np.maximum(1.0 - problem.signs * scores, 0.0)
        force = problem.weights * slack
        return (force * slack).sum(axis=0), -2.0 * force * problem.signs

    def bends(self, scores: NDArray, codes: NDArray, n_problems: int) -> NDArray:
        problem = one_vs_rest(Rows(scores), codes, np.ones(len(codes)), self.of_class)
        active = 2.0 * problem.weights * (problem.signs * scores < 1)
        return active if n_problems > 1 else active.mean(axis=1, keepdims=True)


class _Softmax(_Objective):
    """The log loss of all classes together; the intercept is not penalised."""

    penalised_intercept = False

    def norms(self, W: Array) -> Array:
        return np.array([0.5 * (W * W).sum()])

    def losses(self, scores: NDArray, codes: NDArray) -> tuple[float, Array]:
        weights = self.of_class[codes]
        losses, force = losses_and_chances(scores, codes)
        force -= codes[:, None] == (np.arange(force.shape[1]) if force.shape[1] > 1 else 1)
        return float(weights @ losses), force * weights[:, None]

    def bends(self, scores: NDArray, codes: NDArray, n_problems: int) -> NDArray:
        _, p = losses_and_chances(scores, codes)
        bends = self.of_class[codes][:, None] * (p * (1 - p))
        return bends if n_problems > 1 else bends.mean(axis=1, keepdims=True)


def _columnwise(solvers: list[Solver]) -> Solver:
    return lambda g: np.hstack([solver(g[:, [i]]) for i, solver in enumerate(solvers)])


def _solver(factor: Array) -> Solver:
    return lambda g: lapack.dpotrs(factor, g, lower=0)[0]


def _sample_curvature(objective: _Objective, W: Array, rows: Rows, codes: NDArray, C: float) -> Solver:
    """Return what solves (H + damping) v = g with the second derivatives of a sample, in the space of its rows.

    Of a sample with few rows for its columns, the curvature in many directions is far too small, and steps along them
    would be far too long. The damping, a share of the mean curvature, is measured to need the fewest passes.
    """
    weights = objective.bends(rows.scores(W), codes, 1)[:, 0]
    squares = np.einsum("ij,ij->i", rows.X, rows.X, dtype=np.float64) + 1.0
    few = rows.p / max(np.count_nonzero(weights), 1)
    level = 1.0 + C * float(weights @ squares) / rows.p * min(few, 1.0) ** 2
    curvature = Curvature(rows)
    return lambda g: curvature.solve(weights, 0.5 * C / level, g) / level
