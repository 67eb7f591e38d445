"""Linear classifiers on several sets of rows, solved side by side, for one C after the other.

Where rows are few, a solver spends its time between the products of matrices and not in them. The training rows of the
folds of a cross-validation are alike, so they are solved together: every array has a first axis for the sets. A set is
given by the coordinates of its rows along the eigenvectors of their products, so that these products are a diagonal
matrix, and the preconditioner of conjugate gradients, for any C, is a division.

The objectives are those of `hinge` and `logistic`. Both are minimised by Newton's method. Its step solves

    (D + C Z^T H Z) v = -g

by conjugate gradients, with the rows Z, the second derivatives H of the loss, and D, which is 1 where a weight is
penalised. The preconditioner is D + C h Z^T Z, where h is the mean of H.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnncodes.errors import RangeError
from cnncodes.solvers.coordinates import Fold, SharedCoordinates
from cnncodes.solvers.matrix import Rows
from cnncodes.solvers.path import MAX_C_SQUARES, checked_weights
from cnncodes.solvers.stacked_losses import Hinge, Logistic, Loss, Point

__all__ = ["Beginning", "SideBySide", "bytes_side_by_side"]

Array = NDArray[np.float64]

LINE_STEPS = 30  # at most, to the minimum along a line
SLOPE_LEFT = 0.1  # part of the slope at the start of a line that may be left at its end
REDUCTION = 0.1  # factor by which conjugate gradients reduce the residual in a step
TIGHT_REDUCTION = 1e-3  # the same for a small gap, where another step would hardly improve the solution
TIGHT_GAP = 1e-6  # a gap is small from here on
ROUNDING = 1e-20  # relative to the penalty: a smaller gain is lost in rounding
MAX_PRODUCTS = 300  # with the second derivatives, in a step
BLOCK_BYTES = 1 << 21  # at most, of a block of rows, which is multiplied and summed while it is in the cache
WHOLE_BYTES = 1 << 19  # up to which blocks would save nothing
# OpenBLAS has faster products for small matrices. They take so many rows times classes, and times columns as well.
SMALL_AREA, SMALL_PRODUCT = 1000, 1_000_000
FEW_ROWS = 32  # blocks with fewer rows than these are no faster
KEPT_ARRAYS = 20  # arrays as large as a solution: those that are kept, and what a step takes
TINY = float(np.finfo(float).tiny)


class Beginning(NamedTuple):
    """What has been found for some rows, and serves for others that are like these.

    Attributes
    ----------
    directions : ndarray of shape (d, d) or (d + 1, d + 1), or None
        Orthonormal columns, along which the coordinates are; None where there are fewer rows than these.
    solutions : dict of float to ndarray
        Weights along these directions, for some values of C: the first solution starts from the nearest of them.
    """

    directions: NDArray | None
    solutions: dict[float, Array]


class SideBySide:
    """Classifiers of one loss on several sets of rows, each solved from a solution for another C.

    Parameters
    ----------
    folds : sequence of Fold
    loss : {"squared_hinge", "log_loss"}
        With the penalised intercept of `sklearn.svm.LinearSVC`, or the free one of `LogisticRegression`.
    class_weight : dict or "balanced", optional
        As in these estimators.
    dtype : type
        The coordinates have it. float32 takes half the time where they are many, and solves for a `gap` down to 1e-5.
    largest_C : float, optional
        Larger values will not be asked for; see `RowSpace`.
    beginning : Beginning, optional
        What an object whose rows are like these has found; see its method `beginning`.
    shared : SharedCoordinates, optional
        Those of the same folds, for whoever solves another loss on them.

    Raises
    ------
    ValueError
        Weights that leave nothing to separate.
    RangeError
        The squares of the rows are too large for `dtype`.

    References
    ----------
    Keerthi, DeCoste: A modified finite Newton method for fast solution of large scale linear SVMs. JMLR 6, 2005.
    Nocedal, Wright: Numerical Optimization, 2nd edition, chapter 7.1 (Newton's method with conjugate gradients).
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        loss: str,
        class_weight: Any = None,
        dtype: type = np.float64,
        largest_C: float = np.inf,
        beginning: Beginning | None = None,
        shared: SharedCoordinates | None = None,
    ) -> None:
        classes = np.unique(folds[0].y)
        codes = [np.searchsorted(classes, fold.y) for fold in folds]
        weights = [_weights(fold.y, of_row, loss, class_weight) for fold, of_row in zip(folds, codes, strict=True)]
        if any(not Rows(fold.train).squares <= float(np.finfo(dtype).max) for fold in folds):
            raise RangeError
        directions = None if beginning is None else beginning.directions
        strongest = largest_C * max(float(of_set.max()) for of_set in weights)
        shared = SharedCoordinates() if shared is None else shared
        spaces = shared.of(folds, dtype, strongest, directions, free_intercept=loss == "log_loss")
        self._directions = spaces[-1].directions
        self.Z, self.tests = (_stacked(parts, dtype) for parts in zip(*((s.Z, s.test) for s in spaces), strict=True))
        self.squares = _stacked([space.squares[None] for space in spaces])
        self.penalty = 1.0 - _stacked([space.free[None] for space in spaces])
        self.n_tests = [len(fold.test) for fold in folds]
        named = np.array([1]) if len(classes) == 2 else np.arange(len(classes))
        self.blocks = self._blocks(len(named))
        own = _stacked([(named[:, None] == of_row).astype(float) for of_row in codes])
        n = np.array([len(fold.y) for fold in folds])[:, None, None]
        self.loss: Loss = (Hinge if loss == "squared_hinge" else Logistic)(own, _stacked(weights), n)
        self.W = np.zeros((len(folds), len(named), self.Z.shape[2]))
        self.scores = np.zeros((len(folds), len(named), self.Z.shape[1]))
        self._solved: dict[float, tuple[Array, Array]] = {}
        same = beginning is not None and beginning.directions is not None and self._directions is beginning.directions
        self._beginning = beginning.solutions if beginning is not None and same else {}

    def solve(self, C: float, gap: float, max_iter: int) -> NDArray:
        """Solve for `C`, from the solution for the nearest value so far; return which sets are done, (n_folds,).

        Parameters
        ----------
        C : float
        gap : float
            A set is done after a step that promises at most so much, relative to the penalty: what it leaves is less.
        max_iter : int
            Bound on the steps.

        Raises
        ------
        RangeError
            Numbers beyond which the penalty is lost in rounding.
        """
        if not C * self.loss.weights.max() * self.squares.sum(axis=2).max() <= MAX_C_SQUARES:
            raise RangeError
        if self._solved:
            self.W, self.scores = (part.copy() for part in _nearest(self._solved, C))
        elif self._beginning:
            self.W = _nearest(self._beginning, C).copy()
            self.scores = self._scores_of(self.W)
        dot, reduction = self.loss.dot, REDUCTION if gap > TIGHT_GAP else TIGHT_REDUCTION
        # A step that changes the scores by no more than their rounding gains no more than this.
        lost = float(np.finfo(self.Z.dtype).eps) ** 2 * C * self.loss.weights.sum(axis=(1, 2), keepdims=True)
        point = self.loss.at(self.scores)
        undone: NDArray = np.ones((1, 1, 1), dtype=bool)
        for _ in range(max_iter):
            gradient = self.penalty * self.W + C * self._pull(point.slope)
            if self.loss.together and self.W.shape[1] > 1:
                gradient -= gradient.mean(axis=1, keepdims=True)  # rounding: all classes alike change no probability
            inverse = 1 / (self.penalty + C * point.curvature * self.squares)
            undone = undone & ~(dot(inverse * gradient, gradient) <= ROUNDING * dot(self.penalty * self.W, self.W))
            if not undone.any():
                break
            move, slope = self._newton_step(point, gradient, inverse, C, undone, reduction)
            point = self._move(move, slope, C)
            undone = undone & ~(-slope <= np.maximum(gap * dot(self.penalty * self.W, self.W), lost))  # not if NaN
        self._solved[C] = self.W, self.scores
        done = ~np.broadcast_to(undone, (len(self.W), undone.shape[1], 1))
        return np.asarray(done.all(axis=(1, 2)))

    def beginning(self) -> Beginning:
        """Return what other rows like these can begin with."""
        common = self._directions is not None and len(self.W) == 1
        return Beginning(self._directions, {C: W for C, (W, _) in self._solved.items()} if common else {})

    def decisions(self) -> list[Array]:
        """Return the decision values of the test rows of each set, shape (m, k)."""
        return [
            values[:m] for values, m in zip(self.tests @ self.W.mT.astype(self.tests.dtype), self.n_tests, strict=True)
        ]

    def _blocks(self, k: int) -> list[tuple[NDArray, slice | None]]:
        """Return the blocks of rows to multiply with k directions, and where they are; None where one is all."""
        n_folds, n, r = self.Z.shape
        size = min(SMALL_AREA // k, SMALL_PRODUCT // (k * r))
        in_cache = max(1, BLOCK_BYTES // (self.Z.itemsize * n_folds * r))
        size = in_cache if size < FEW_ROWS else min(size, in_cache)
        if self.Z.nbytes <= WHOLE_BYTES:
            size = n
        blocks = [slice(start, start + size) for start in range(0, n, size)]
        return [(self.Z[:, block], block if len(blocks) > 1 else None) for block in blocks]

    def _scores_of(self, W: Array) -> Array:
        return (W.astype(self.Z.dtype, copy=False) @ self.Z.mT).astype(np.float64, copy=False)

    def _pull(self, slope: Array) -> Array:
        return (slope.astype(self.Z.dtype, copy=False) @ self.Z).astype(np.float64, copy=False)

    def _curve(self, point: Point, direction: Array) -> Array:
        """Return the product of the second derivatives of the loss with a direction, in one reading of the rows."""
        direction = direction.astype(self.Z.dtype, copy=False)
        parts = (
            point.curve(direction @ rows.mT, block).astype(self.Z.dtype, copy=False) @ rows
            for rows, block in self.blocks
        )
        return reduce(np.add, parts).astype(np.float64, copy=False)

    def _newton_step(
        self, point: Point, gradient: Array, inverse: Array, C: float, undone: NDArray, reduction: float
    ) -> tuple[Array, Array]:
        """Return -H^-1 gradient, and its product with the gradient; both are 0 where nothing is to be done."""
        dot = self.loss.dot
        move, residual = np.zeros_like(gradient), -gradient
        z = inverse * residual
        rz = dot(residual, z)
        least = reduction**2 * rz
        live = undone
        direction = z
        for _ in range(MAX_PRODUCTS):
            penalised = self.penalty * direction
            image = penalised + C * self._curve(point, direction)
            curved = dot(direction, image)
            live = live & (curved > dot(direction, penalised) / 2)  # if not, it is lost in rounding: the loss is convex
            step = np.where(live, rz / np.maximum(curved, TINY), 0.0)
            move += step * direction
            residual -= step * image
            z = inverse * residual
            before, rz = rz, dot(residual, z)
            live = live & (rz > least)
            if not live.any():
                break
            direction = z + rz / np.maximum(before, TINY) * direction
        return move, dot(move, gradient)

    def _move(self, move: Array, slope: Array, C: float) -> Point:
        """Go along `move` to about the minimum on its line: Newton's method on the derivative, between bounds."""
        dot, change, penalised = self.loss.dot, self._scores_of(move), self.penalty * move
        flat, curved = dot(penalised, self.W), dot(penalised, move)
        t, low, high = np.ones_like(slope), np.zeros_like(slope), np.full_like(slope, np.inf)
        for _ in range(LINE_STEPS):
            after = self.loss.at(self.scores + t * change)
            first = flat + t * curved + C * dot(after.slope, change)
            rough = np.abs(first) > SLOPE_LEFT * np.abs(slope)
            if not rough.any():
                break
            second = curved + C * dot(after.curve(change, None), change)
            low, high = np.where(first < 0, t, low), np.where(first > 0, t, high)
            proposal = t - first / np.maximum(second, TINY)
            middle = np.where(np.isinf(high), 2 * t, (low + high) / 2)
            t = np.where(rough, np.where((proposal > low) & (proposal < high), proposal, middle), t)
        self.W += t * move
        self.scores += t * change
        return after


def _nearest(solved: dict[float, Any], C: float) -> Any:
    return solved[min(solved, key=lambda other: abs(np.log(other / C)))]


def _weights(y: NDArray, codes: NDArray, loss: str, class_weight: Any) -> Array:
    """Return the weights of rows, (1, n), or (k, n) where they differ by class, as liblinear and scikit-learn do."""
    classes = np.unique(y)
    weights, of_class = checked_weights(None, class_weight, classes, codes, y, loss)
    if loss == "log_loss" or len(classes) == 2:
        return (weights * of_class[codes])[None]
    if class_weight is None:
        return weights[None]
    return np.where(codes == np.arange(len(classes))[:, None], of_class[:, None], 1.0)


def _stacked(parts: Sequence[NDArray], dtype: type = np.float64) -> NDArray:
    """Return matrices as one array, each filled up with zeros to the size of the largest."""
    out = np.zeros((len(parts), *np.max([part.shape for part in parts], axis=0)), dtype)
    for i, part in enumerate(parts):
        out[i, : part.shape[0], : part.shape[1]] = part
    return out


def bytes_side_by_side(n_folds: int, n: int, d: int, k: int, itemsize: int = 8) -> int:
    """Return the memory that as many folds of n rows of d columns and k classes take, for some values of C.

    The coordinates take `itemsize` bytes each, weights and scores 8.
    """
    r = min(n, d) + 1
    return n_folds * (itemsize * n * r + 8 * KEPT_ARRAYS * k * (n + r))
