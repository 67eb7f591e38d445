"""Values of C that are tried, from coarse to fine, until none that is left can be better."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cnncodes.probes.calibration import brier_score, fit_temperature
from cnncodes.probes.choice import best_probabilities, most_regularised
from cnncodes.probes.decision_values import winner
from cnncodes.probes.folds import Folds
from cnncodes.probes.out_of_fold import OutOfFold
from cnncodes.system.progress import Progress

__all__ = ["Trials"]

FEW = 8  # values of C, up to which all are tried
BEHIND = 4  # places after the best one, with a value that is worse, from which on the others are left out
WORSE = 1.02  # ratio of Brier scores: where C is small, and where it is large, they hardly change


class _Trial(NamedTuple):
    decision: np.ndarray  # (n, k), out of fold
    converged: np.ndarray  # (n_folds,)
    accuracy: float
    by_fold: np.ndarray  # (n_folds,), accuracy on each held-out fold
    brier: float
    n: int  # images decided on


class Trials:
    """Probes for values of C, given by their places in a grid.

    Parameters
    ----------
    out_of_fold : OutOfFold
        What they decide on held-out images.
    Cs : ndarray, shape (n_Cs,)
        The grid, ascending.
    y : ndarray, shape (n,)
        Labels.
    folds : list of (train, test) index arrays
    usual_C : float, default=1.0
        What is taken where scores say nothing.
    progress : callable, optional
        Called with (tried, n_Cs, 0) whenever values were tried.
    """

    def __init__(
        self,
        out_of_fold: OutOfFold,
        Cs: np.ndarray,
        y: np.ndarray,
        folds: Folds,
        *,
        usual_C: float = 1.0,
        progress: Progress | None = None,
    ) -> None:
        self.out_of_fold, self.Cs, self.y, self.folds, self.progress = out_of_fold, Cs, y, folds, progress
        self.decades = np.log10(Cs / usual_C)
        self.classes, self.truth = np.unique(y, return_inverse=True)
        self._trials: dict[int, _Trial] = {}
        self._first_looks: dict[int, _Trial] = {}  # on the first folds alone, where these are enough

    @property
    def tried(self) -> list[int]:
        """Places of the values that were tried, ascending."""
        return sorted(self._trials)

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracy on each held-out fold, shape (n_folds, n_tried)."""
        return np.stack([self._trials[i].by_fold for i in self.tried], axis=1)

    @property
    def converged(self) -> np.ndarray:
        """Which fits converged, shape (n_folds, n_tried)."""
        return np.stack([self._trials[i].converged for i in self.tried], axis=1)

    def search(self, *, one_se: bool, exact: bool = True) -> int:
        """Try values of C until the best has been compared with its neighbours; return its place.

        A few values are all tried. Of many, every second or fourth comes first, from the most regularised on, until one
        far beyond the best is worse; then those that are nearer to the best, until both next to it are tried.

        Parameters
        ----------
        one_se, exact : bool
            As for `cnncodes.probes.search.search_C`.
        """
        n_Cs = len(self.Cs)
        if n_Cs <= FEW:
            self._try(range(n_Cs), exact=exact and n_Cs == 1)
            return self._best(self._trials, one_se)
        self._try([self._coarse_best()])
        step = self.out_of_fold.stride
        while step > 1:
            step //= 2
            while neighbours := self._untried_neighbours(step, one_se):
                self._try(neighbours)
        return self._best(self._trials, one_se)

    def _coarse_best(self) -> int:
        coarse, first_folds = range(0, len(self.Cs), self.out_of_fold.stride), self.out_of_fold.first_folds
        first_look = first_folds < len(self.folds)
        trials = self._first_looks if first_look else self._trials
        for start in range(0, len(coarse), self.out_of_fold.at_once):
            places = coarse[start : start + self.out_of_fold.at_once]
            self._try(places, n_folds=first_folds)
            best = self._best(trials, one_se=False)
            if places[-1] >= best + BEHIND and trials[places[-1]].brier > WORSE * trials[best].brier:
                break
        return best

    def decision(self, place: int, *, exact: bool) -> np.ndarray:
        """Return the out-of-fold decision values for a value of C, shape (n, k), as exact as a kept fit or not."""
        if exact and self.out_of_fold.rough:
            self._try([place], exact=True)
        return self._trials[place].decision

    def _untried_neighbours(self, step: int, one_se: bool) -> list[int]:
        best = self._best(self._trials, one_se)
        places = (best - step, best + step)
        return [place for place in places if 0 <= place < len(self.Cs) and place not in self._trials]

    def _try(self, places: Iterable[int], *, exact: bool = False, n_folds: int | None = None) -> None:
        folds = self.folds[:n_folds]
        trials = self._trials if len(folds) == len(self.folds) else self._first_looks
        places = [place for place in places if exact or place not in trials]
        if not places:
            return
        decisions, converged = self.out_of_fold.decide(self.Cs[places].tolist(), exact=exact, n_folds=len(folds))
        rows = np.concatenate([test for _, test in folds])
        for place, decision, done in zip(places, decisions, converged.T, strict=True):
            right = winner(decision) == self.truth
            by_fold = np.array([right[test].mean() for _, test in folds])
            scores, truth = decision[rows], self.truth[rows]
            brier = brier_score(scores, truth, fit_temperature(scores, truth))
            trials[place] = _Trial(decision, done, float(right[rows].mean()), by_fold, brier, len(rows))
        if self.progress is not None:
            self.progress(len(self._trials.keys() | self._first_looks.keys()), len(self.Cs), 0)

    def _best(self, trials: dict[int, _Trial], one_se: bool) -> int:
        tried = sorted(trials)
        accuracy, brier = (np.array([getattr(trials[i], name) for i in tried]) for name in ("accuracy", "brier"))
        best = best_probabilities(accuracy, brier, trials[tried[0]].n, self.decades[tried])
        return tried[min(best, most_regularised(self.accuracy)) if one_se else best]
