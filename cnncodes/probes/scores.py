"""Scores that say how far they can be trusted: intervals, baselines, per-class figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from cnncodes.codes.views import averaged
from cnncodes.errors import ProbeError
from cnncodes.probes.decision_values import winner
from cnncodes.probes.estimate import Accuracies, Estimate
from cnncodes.probes.folds import Folds
from cnncodes.probes.intervals import balanced_interval, design_effect, wilson_interval
from cnncodes.probes.probe import decide
from cnncodes.probes.scaling import Scaling, make_scaler
from cnncodes.probes.search import fit_probe, grid_of
from cnncodes.solvers.threads import few_threads
from cnncodes.system.progress import Progress, part_of
from cnncodes.vocabulary import AUTO, DEFAULT_SCALING

__all__ = [
    "majority_accuracy",
    "neighbour_accuracy",
    "nested_predictions",
    "score",
    "score_shares",
    "spread",
]

# Out-of-fold answers are not those of the probe that is kept; benchmarks/bench_intervals.py counts how often the
# intervals hold with these two
OTHER_PROBES = 8  # n answers tell as much as n / (1 + 8 / n) of its own
LEARNING_POWER = 0.4  # of the number of images, with which the odds of a mistake fall at most
NEIGHBOUR_QUERIES = 2000  # held-out images, of all folds, whose nearest neighbour is looked for


def majority_accuracy(y: np.ndarray) -> float:
    """Return the accuracy on `y` of always answering its most frequent class."""
    return float(np.unique(y, return_counts=True)[1].max() / len(y))


def score(
    y: np.ndarray, predicted: np.ndarray, *, folds: Folds | None = None, groups: np.ndarray | None = None
) -> Accuracies:
    """Return accuracy and balanced accuracy of predictions, each with its 95 % interval.

    Parameters
    ----------
    y, predicted : ndarray, shape (n,)
    folds : list of (train, test) index arrays, optional
        The answers are those of the probes of cross-validation, and the intervals are for the probe that is then fitted
        to all images. It is another one (Bates, Hastie, Tibshirani 2021), so n answers count as n / (1 + 8 / n). It has
        learned from more images, too, and errors fall with a power of their number (Cortes et al. 1994; Hestness et al.
        2017). The upper ends allow for odds of a mistake that fall with the power 0.4 of the images of a class, so that
        its error falls with the power 0.4 × accuracy; the lower ends allow for no gain.
    groups : ndarray of str, shape (n,), optional
        Images that are not independent; an empty string means a group of its own. See `design_effect`.
    """
    return score_shares(y, y == predicted, folds=folds, groups=groups)


def score_shares(
    y: np.ndarray, right: np.ndarray, *, folds: Folds | None = None, groups: np.ndarray | None = None
) -> Accuracies:
    """Return what `score` does, given how often each image was labelled right.

    Parameters
    ----------
    y : ndarray, shape (n,)
    right : ndarray, shape (n,)
        From 0 to 1. Answers to the same image, of repeated cross-validations, do not narrow the intervals.
    folds, groups
        As for `score`.
    """
    _, of_class, counts = np.unique(y, return_inverse=True, return_counts=True)
    by_class = np.bincount(of_class, right)
    remaining, others = np.ones(len(counts)), 0
    if folds is not None:
        remaining, others = _learned_from(of_class, folds) ** (LEARNING_POWER * right.mean()), OTHER_PROBES
    best_case = counts - (counts - by_class) * remaining
    accuracy, recall = float(right.mean()), by_class / counts
    weight = _weight(len(y), design_effect(right, groups), others)
    of_classes = _weight(len(y), design_effect(right, groups, of_class=of_class), others)
    return Accuracies(
        Estimate(
            accuracy,
            wilson_interval(by_class.sum() * weight, len(y) * weight)[0],
            wilson_interval(best_case.sum() * weight, len(y) * weight)[1],
        ),
        Estimate(
            float(recall.mean()),
            balanced_interval(by_class * of_classes, counts * of_classes)[0],
            balanced_interval(best_case * of_classes, counts * of_classes)[1],
        ),
    )


def _weight(n: int, effect: float, others: int) -> float:
    """Return what share of n answers would be as good as they are, each for itself and of the probe that is kept."""
    return 1 / (effect * (1 + others * effect / n))


def _learned_from(of_class: np.ndarray, folds: Folds) -> np.ndarray:
    """Return the share of each class that the probes which answered for it had learned from, in the mean."""
    counts = np.bincount(of_class)
    share = np.ones(len(of_class))
    for train, test in folds:
        share[test] = (np.bincount(of_class[train], minlength=len(counts)) / counts)[of_class[test]]
    return np.bincount(of_class, share) / counts


def neighbour_accuracy(X: np.ndarray, y: np.ndarray, folds: Folds, *, scale: Scaling = DEFAULT_SCALING) -> float:
    """Return the accuracy of answering with the class of the nearest training image, on the same folds.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_features) or (n_samples, n_views, n_features)
        The views of an image are averaged.
    y : ndarray, shape (n_samples,)
    folds : list of (train, test) index arrays
        Each fold is scored on those of its held-out rows that `spread` returns.
    scale : {"shrunk", "standard", "l2", "none"} or transformer
        Scaling of the codes before the Euclidean distance is taken.
    """
    X = averaged(X)
    right: list[np.ndarray] = []
    for train, test in folds:
        queries = spread(test, NEIGHBOUR_QUERIES // len(folds))
        nearest = KNeighborsClassifier(1, algorithm="brute")
        with few_threads(X):
            scaler = make_scaler(scale).fit(X[train])
            nearest.fit(scaler.transform(X[train]), y[train])
            right.append(nearest.predict(scaler.transform(X[queries])) == y[queries])
    return float(np.mean(np.concatenate(right)))


def spread(rows: np.ndarray, most: int = NEIGHBOUR_QUERIES) -> np.ndarray:
    """Return at most `most` of the rows, evenly spaced: by default enough for a baseline."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def nested_predictions(
    X: np.ndarray,
    y: np.ndarray,
    folds: Folds,
    *,
    groups: np.ndarray | None = None,
    notes: list[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> np.ndarray:
    """Return out-of-fold predictions whose C was chosen without the fold that they are for.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_features) or (n_samples, n_views, n_features)
    y : ndarray, shape (n_samples,)
    folds : list of (train, test) index arrays
    groups : ndarray, shape (n_samples,), optional
    notes : list of str, optional
        What there is to say of the searches is added to it.
    progress : callable, optional
        Called with (tried, total, 0) whenever values of C were tried; the total is that of all folds.
    **options
        Options of `fit_probe`.

    Returns
    -------
    ndarray, shape (n_samples,)

    Raises
    ------
    ProbeError
        A class has too few images for folds within folds.
    """
    predicted, fold_notes = np.empty_like(y), set[str]()
    n_Cs = len(grid_of(options.get("C", AUTO)))
    for i, (train, test) in enumerate(folds):
        options["progress"] = part_of(progress, i * n_Cs, len(folds) * n_Cs)
        try:
            probe, search = fit_probe(X[train], y[train], groups=None if groups is None else groups[train], **options)
        except ProbeError as error:
            raise ProbeError(f"the nested estimate needs more images: in the rest of a fold, {error}") from error
        predicted[test] = probe.classes_[winner(decide(probe, X[test]))]
        fold_notes |= {f"in the nested estimate: {note}" for note in search.notes}
    if notes is not None:
        notes += sorted(fold_notes)
    return predicted
