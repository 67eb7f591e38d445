"""Finds labels that are probably wrong, by out-of-fold probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncodes.errors import ProbeError
from cnncodes.insight.finding import Examined, Finding
from cnncodes.insight.label_errors import find_label_errors
from cnncodes.neighbours.duplicates import join_groups
from cnncodes.probes.decision_values import softmax
from cnncodes.probes.sampling import stratified_sample
from cnncodes.probes.scores import majority_accuracy, score
from cnncodes.probes.search import C_GRID, Search, search_C

__all__ = ["SAMPLE_ROWS", "Suspect", "out_of_fold"]

SAMPLE_ROWS = 1000  # images on which every third C is tried, where there are more


@dataclass(frozen=True)
class Suspect(Finding):
    """An image whose label is probably wrong.

    Attributes
    ----------
    id, label, split : str
    suggested : str
        The most probable other label.
    confidence : float
        Its probability.
    label_confidence : float
        The probability of the given label.
    """

    key, title, columns = "suspects", "suspect labels", ("id", "label", "suggested", "confidence")

    split: str
    suggested: str
    confidence: float
    label_confidence: float

    @property
    def name(self) -> str:
        return "suspect label"

    @property
    def badness(self) -> float:
        return self.confidence

    @classmethod
    def look(cls, examined: Examined) -> list[Suspect]:
        """Return the labels that the classifier doubts; none where it is no better than the most frequent class."""
        labels = examined.data.file.labels[examined.rows]
        labelled = np.flatnonzero(labels != "")
        y = labels[labelled]
        groups = join_groups(examined.data.file.groups[examined.rows], examined.duplicates)[labelled]
        try:
            scored, left_out = examined.data.scorable(groups, examined.rows[labelled])
            examined.notes += left_out
            labelled, y, groups = labelled[scored], y[scored], groups[scored]
            search = _cross_validate(examined, labelled, y, groups)
        except ProbeError as error:
            examined.notes.append(f"suspect labels are not looked for: {error}")
            return []
        examined.notes += search.notes
        accuracy = score(y, search.predictions, folds=search.folds, groups=groups).accuracy
        examined.accuracy, examined.baseline_accuracy = accuracy.value, majority_accuracy(y)
        if accuracy.low <= examined.baseline_accuracy:
            examined.notes.append(
                f"suspect labels are not listed: {examined.accuracy:.1%} right out of fold is not significantly more "
                f"than the {examined.baseline_accuracy:.1%} of the most frequent class, so the classifier cannot tell; "
                "add images, or try another layer"
            )
            return []
        given = np.searchsorted(search.classes, y)
        probabilities = softmax(search.decision, search.temperature)
        others = np.where(np.eye(len(search.classes), dtype=bool)[given], -1.0, probabilities)
        best = others.argmax(axis=1)
        return [
            cls(
                **examined.of(labelled[i]),
                suggested=str(search.classes[best[i]]),
                confidence=float(probabilities[i, best[i]]),
                label_confidence=float(probabilities[i, given[i]]),
            )
            for i in find_label_errors(given, probabilities)
        ]


def _cross_validate(examined: Examined, labelled: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Search:
    """Cross-validate the labelled images, on folds that keep duplicates together."""
    data, rows = examined.data, examined.rows[labelled]
    if len(rows) <= sample_size(y, examined.options["cv"]):
        return data.search(examined.layers, rows=rows, groups=groups, **examined.options)
    scale = data.scaling(examined.layers)
    return out_of_fold(data.codes(examined.layers, rows), y, groups, scale=scale, **examined.options)


def sample_size(y: np.ndarray, cv: int) -> int:
    """Return the number of images on which all C are tried: enough to have some of each class in each fold."""
    return max(SAMPLE_ROWS, 2 * cv * len(np.unique(y)))


def out_of_fold(
    X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None, *, cv: int = 5, seed: int = 0, **options: Any
) -> Search:
    """Cross-validate with the best C; of many images, a sample says which that is.

    Parameters
    ----------
    X, y, groups, cv, seed, **options
        As for `search_C`.
    """
    options |= {"cv": cv, "seed": seed}
    m = sample_size(y, cv)
    if len(y) <= m:
        return search_C(X, y, groups=groups, **options)
    kept = stratified_sample(np.unique(y, return_inverse=True)[1], m, least=2 * cv, seed=seed)
    kept_groups = None if groups is None else groups[kept]
    try:
        sample = search_C(X[kept], y[kept], Cs=C_GRID[::3], groups=kept_groups, exact=False, **options)
    except ProbeError:  # it may have one group of a class that has two
        return search_C(X, y, groups=groups, **options)
    search = search_C(X, y, Cs=[sample.C], groups=groups, **options)
    search.notes += [note for note in sample.notes if note not in search.notes]
    return search
