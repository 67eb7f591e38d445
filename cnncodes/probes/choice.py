"""Which C of a grid is chosen, given what cross-validation says of each."""

from __future__ import annotations

import numpy as np

from cnncodes.probes.calibration import brier_score, fit_temperature
from cnncodes.probes.decision import winner

__all__ = ["best_probabilities", "edge_notes", "most_regularised"]

CLOSE = 1.0  # standard errors of an accuracy; benchmarks/README.md has what other choices cost
EDGE = 3  # values of C next to the edge of the grid
TIE = 1e-12  # mean accuracies that differ by less differ by rounding


def most_regularised(accuracy: np.ndarray) -> int:
    """Return the first column within one standard error of the best, given shape (n_folds, n_Cs)."""
    means = accuracy.mean(axis=0)
    best = int(np.argmax(means))
    return int(np.argmax(means >= means[best] - accuracy[:, best].std(ddof=1) / np.sqrt(len(accuracy)) - TIE))


def best_probabilities(decision: np.ndarray, truth: np.ndarray) -> int:
    """Return which C is the best: of those hardly less accurate than any, that with the smallest Brier score.

    Many C get nearly the same number of a few dozen images right, and chance decides which gets most. The calibrated
    probabilities of the out-of-fold decisions, shape (n_Cs, n_samples, k), are the steadier judge among them; unlike
    their log loss, no single image that is surely wrong decides.
    """
    accuracy = np.array([np.mean(winner(values) == truth) for values in decision])
    top = accuracy.max()
    close = np.flatnonzero(accuracy >= top - CLOSE * np.sqrt(top * (1 - top) / len(truth)) - TIE)
    scores = [brier_score(decision[i], truth, fit_temperature(decision[i], truth)) for i in close]
    return int(close[np.argmin(scores)])


def edge_notes(Cs: np.ndarray, accuracy: np.ndarray, best: int) -> list[str]:
    """Say so where the chosen C lies at the edge of the grid, given accuracies of shape (n_folds, n_Cs)."""
    means = accuracy.mean(axis=0)
    if len(Cs) == 1 or best not in (0, len(Cs) - 1) or means[best] >= 1:
        return []
    towards = means[:EDGE] if best == 0 else means[-EDGE:]
    flat = len(Cs) > EDGE and np.ptp(towards) < TIE
    more = "the accuracy no longer changes towards it" if flat else "a wider one may do better"
    return [f"the best C, {Cs[best]:g}, lies at the edge of the grid; {more}"]
