"""Which C of a grid is chosen, given what cross-validation says of each."""

from __future__ import annotations

import numpy as np

__all__ = ["best_probabilities", "edge_notes", "most_regularised"]

CLOSE = 1.0  # standard errors of an accuracy; benchmarks/README.md has what other choices cost
EDGE = 3  # values of C next to the edge of the grid
ALIKE = 1e-3  # relative difference of Brier scores that says nothing, however many images there are
ALIKE_IMAGES = 1.0  # with few images, a difference of one image's share says nothing either
TIE = 1e-12  # mean accuracies that differ by less differ by rounding


def most_regularised(accuracy: np.ndarray) -> int:
    """Return the first column within one standard error of the best, given shape (n_folds, n_Cs)."""
    means = accuracy.mean(axis=0)
    best = int(np.argmax(means))
    return int(np.argmax(means >= means[best] - accuracy[:, best].std(ddof=1) / np.sqrt(len(accuracy)) - TIE))


def best_probabilities(accuracy: np.ndarray, brier: np.ndarray, n: int, decades: np.ndarray) -> int:
    """Return which C is the best: of those hardly less accurate than any, that with the smallest Brier score.

    Many C get nearly the same number of a few dozen images right, and chance decides which gets most. The calibrated
    probabilities of the out-of-fold decisions are the steadier judge among them; unlike their log loss, no single image
    that is surely wrong decides. Where these are alike, too, the scores say nothing, and the usual C is taken: scores
    hardly change beyond some C if the classes can be separated, nor below some C, as all weights are small.

    Parameters
    ----------
    accuracy, brier : ndarray, shape (n_Cs,)
        They belong to the out-of-fold answers.
    n : int
        Images.
    decades : ndarray, shape (n_Cs,)
        How far each C is from the usual one, in powers of ten; of two as far, the first is taken.
    """
    top = accuracy.max()
    close = np.flatnonzero(accuracy >= top - CLOSE * np.sqrt(top * (1 - top) / n) - TIE)
    alike = close[brier[close] <= brier[close].min() * (1 + max(ALIKE, ALIKE_IMAGES / n))]
    return int(alike[np.argmin(np.abs(decades[alike]))])


def edge_notes(grid: np.ndarray, Cs: np.ndarray, accuracy: np.ndarray, best: int) -> list[str]:
    """Say so where the chosen C lies at the edge of the grid.

    Parameters
    ----------
    grid : ndarray, shape (n_grid,)
        All values, ascending.
    Cs : ndarray, shape (n_Cs,)
        Those that were tried, ascending.
    accuracy : ndarray, shape (n_folds, n_Cs)
    best : int
        Place of the chosen one in `Cs`.
    """
    means = accuracy.mean(axis=0)
    if len(grid) == 1 or Cs[best] not in (grid[0], grid[-1]) or means[best] >= 1:
        return []
    towards = means[:EDGE] if Cs[best] == grid[0] else means[-EDGE:]
    if len(Cs) > EDGE and np.ptp(towards) < TIE:
        return []  # the accuracy no longer changes towards the edge: a wider grid has no better value
    return [f"the best C, {Cs[best]:g}, lies at the edge of the grid; a wider one may do better"]
