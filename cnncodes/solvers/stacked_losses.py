"""The squared hinge loss, and that of logistic regression, on several sets of rows that are stacked in one array."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["Hinge", "Logistic", "Loss", "Point"]

Array = NDArray[np.float64]


class Point(Protocol):
    """A loss at some scores."""

    slope: Array  # its derivative by each score, of their shape
    curvature: Array  # mean second derivative, of shape (n_folds, 1, 1) or (n_folds, k, 1)

    def curve(self, change: NDArray, block: slice | None) -> NDArray:
        """Return the product of the second derivatives with a change of the scores of some rows, or of all."""


class Loss:
    """What a loss is of: whose rows are whose, with weights, and how many rows a set has.

    Parameters
    ----------
    own : ndarray of shape (n_folds, k, n)
        1 where a row is of the class, 0 elsewhere.
    weights : ndarray of shape (n_folds, 1, n) or (n_folds, k, n)
    n : ndarray of shape (n_folds, 1, 1)
    """

    together: bool  # whether the classes are one problem

    def __init__(self, own: Array, weights: Array, n: NDArray) -> None:
        self.own, self.weights, self.n = own, weights, n
        self.signs = 2.0 * own - 1.0

    def at(self, scores: Array) -> Point:
        """Return the loss at some scores, of shape (n_folds, k, n)."""
        raise NotImplementedError

    def dot(self, first: Array, second: Array) -> Array:
        """Return the sum of the products over a problem, of shape (n_folds, 1, 1) or (n_folds, k, 1)."""
        products: Array = np.vecdot(first, second)[:, :, None]
        return products.sum(axis=1, keepdims=True) if self.together else products


class Hinge(Loss):
    """The squared hinge loss of each class against the others."""

    together = False

    def at(self, scores: Array) -> Point:
        return _HingePoint(self, scores)


class _HingePoint:
    def __init__(self, loss: Loss, scores: Array) -> None:
        slack = np.maximum(1.0 - loss.signs * scores, 0.0)
        weights = 2.0 * loss.weights
        self.slope = -weights * loss.signs * slack
        self.of_rows = weights * (slack > 0)
        self.curvature = self.of_rows.sum(axis=2, keepdims=True) / loss.n

    def curve(self, change: NDArray, block: slice | None) -> NDArray:
        return (self.of_rows if block is None else self.of_rows[:, :, block]) * change


class Logistic(Loss):
    """The loss of logistic regression, binary or multinomial."""

    together = True

    def at(self, scores: Array) -> Point:
        return _LogisticPoint(self, scores)


class _LogisticPoint:
    """What 1 - p of the own class is, is summed over the others: for a large C it decides, however near to 0."""

    def __init__(self, loss: Loss, scores: Array) -> None:
        self.loss = loss
        if scores.shape[1] == 1:
            wrong, right = expit(-loss.signs * scores), expit(loss.signs * scores)
            self.chances = wrong * right
            self.slope = -loss.weights * loss.signs * wrong
            curvature = self.chances
        else:
            p = np.exp(scores - scores.max(axis=1, keepdims=True))
            others = p * (1.0 - loss.own)
            other = others.sum(axis=1, keepdims=True)
            total = other + (p * loss.own).sum(axis=1, keepdims=True)
            self.chances = p / total
            self.slope = loss.weights * (others - other * loss.own) / total
            curvature = (self.chances * (1.0 - self.chances)).mean(axis=1, keepdims=True)
        self.curvature = (loss.weights * curvature).sum(axis=(1, 2), keepdims=True) / loss.n

    def curve(self, change: NDArray, block: slice | None) -> NDArray:
        chances, own, weights = self.chances, self.loss.own, self.loss.weights
        if block is not None:
            chances, own, weights = chances[:, :, block], own[:, :, block], weights[:, :, block]
        if change.shape[1] == 1:
            return weights * chances * change
        # Next to a class that is nearly sure, the others are small differences.
        change = chances * (change - (change * own).sum(axis=1, keepdims=True))
        return weights * (change - chances * change.sum(axis=1, keepdims=True))
