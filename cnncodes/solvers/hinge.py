"""L2-regularised squared hinge loss on dense rows: the problems of several classes, and a line search for them.

For one class with signs s_i, weights r_i and rows x_i (the constant intercept column included), the objective is

    P(w) = 1/2 |w|^2 + C sum_i r_i max(0, 1 - s_i w.x_i)^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnncodes.solvers.matrix import Rows

__all__ = ["HingeProblem", "classes_at_once", "line_search", "one_vs_rest"]

Array = NDArray[np.float64]

CURVATURE_BYTES = 512 << 20  # so many classes are solved together as fit into it
ROW_BYTES = 100  # a row takes so many for each class: margins, slack, the change in the line search
SHARED_MATRICES = 5  # p x p, besides those of each class: of all rows, to solve with, to add to


@dataclass(frozen=True)
class HingeProblem:
    """The one-vs-rest problems of several classes on the same rows.

    Attributes
    ----------
    rows : Rows
    signs : ndarray of int8, shape (n, k)
        +1 where the row belongs to the class, -1 elsewhere.
    weights : ndarray of shape (n, k) or (n, 1)
        Positive weights r_i.
    start : ndarray of shape (p, k), optional
        Weights that are near the solution for the smallest C.
    """

    rows: Rows
    signs: NDArray[np.int8]
    weights: Array
    start: Array | None = None

    def margins(self, W: Array, classes: NDArray | slice = slice(None)) -> Array:
        return self.rows.scores(W) * self.signs[:, classes]

    def weights_of(self, classes: NDArray) -> Array:
        return self.weights if self.weights.shape[1] == 1 else self.weights[:, classes]

    def balance(self) -> Array:
        """Return liblinear's factor on the tolerance: the share of the smaller side, by class."""
        positive = (self.signs > 0).sum(axis=0)
        return np.maximum(np.minimum(positive, len(self.signs) - positive), 1) / len(self.signs)


def classes_at_once(rows: Rows, k: int, memory: int | None) -> int:
    """Return how many of `k` classes can be solved together in `memory` bytes, at least one."""
    square = 8 * rows.p**2
    spare = CURVATURE_BYTES if memory is None else memory - SHARED_MATRICES * square
    return max(1, min(k, spare // (2 * square + ROW_BYTES * rows.n)))


def one_vs_rest(
    rows: Rows, codes: NDArray, weights: NDArray, of_class: NDArray, start: NDArray | None, memory: int | None
) -> Iterator[HingeProblem]:
    """Yield the problems of all classes, weighted as by liblinear: both classes of two, the positive one of several."""
    if len(of_class) == 2:
        signs = np.where(codes == 1, 1, -1).astype(np.int8)[:, None]
        yield HingeProblem(rows, signs, (weights * of_class[codes])[:, None], start)
        return
    size = classes_at_once(rows, len(of_class), memory)
    for first in range(0, len(of_class), size):
        part = np.arange(first, min(first + size, len(of_class)))
        positive = codes[:, None] == part
        signs = np.where(positive, 1, -1).astype(np.int8)
        weighted = weights[:, None]
        if (of_class != 1.0).any():
            weighted = weighted * np.where(positive, of_class[part], 1.0)
        yield HingeProblem(rows, signs, weighted, None if start is None else start[:, part])


def line_search(W: Array, move: Array, margins: Array, change: Array, weights: Array) -> Array:
    """Return, by class, the t > 0 that minimises P(w + t move): Newton's method on a piecewise linear derivative."""
    flat, curved = (W * move).sum(axis=0), (move * move).sum(axis=0)

    def derivatives(t: Array) -> tuple[Array, Array]:
        slack = np.maximum(1.0 - margins - t * change, 0.0)
        pull = weights * change
        first = flat + t * curved - 2.0 * (pull * slack).sum(axis=0)
        return first, curved + 2.0 * (pull * change * (slack > 0)).sum(axis=0)

    t = np.ones(W.shape[1])
    start = np.abs(derivatives(0.0 * t)[0])
    low, high = np.zeros_like(t), np.full_like(t, np.inf)
    for _ in range(50):
        first, second = derivatives(t)
        settled = np.abs(first) <= 0.05 * start
        if settled.all():
            break
        low, high = np.where(first < 0, t, low), np.where(first > 0, t, high)
        proposal = t - first / second
        inside = (proposal > low) & (proposal < high)
        middle = np.where(np.isinf(high), 2.0 * t, 0.5 * (low + high))
        t = np.where(settled, t, np.where(inside, proposal, middle))
    return t
