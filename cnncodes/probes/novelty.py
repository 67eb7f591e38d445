"""How unlike all classes a code is: the cosine between it and the nearest class mean, among those of training codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnncodes.neighbours.nearest import unit_rows

__all__ = ["MAX_REFERENCE", "cosine_to_nearest", "learn_familiarity", "novelty"]

MAX_REFERENCE = 1000  # cosines of training codes that are kept: novelty is then known to 0.001
ROWS = 8192  # scaled at a time


def cosine_to_nearest(X: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return the cosine between each code and the class mean that is nearest in angle, both seen from the middle.

    The middle is that of the class means, so that a large class does not draw it to itself.

    Parameters
    ----------
    X : ndarray, shape (n, n_features)
        Scaled codes.
    means : ndarray, shape (n_classes, n_features)

    Returns
    -------
    ndarray, shape (n,)
        Between -1 and 1; 0 for a code in the middle itself.
    """
    middle = means.mean(axis=0)
    return (unit_rows(X - middle) @ unit_rows(means - middle).T).max(axis=1).clip(-1, 1)


def learn_familiarity(
    scaled: Callable[[np.ndarray], np.ndarray],
    truth: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class means, and how familiar the training codes look to means that do not hold their own fold.

    Parameters
    ----------
    scaled : callable
        Gives the scaled codes, shape (n_rows, n_features), of an array of row numbers.
    truth : ndarray of int, shape (n_samples,)
        Index of the class of each row; each class is in the training part of each fold.
    folds : sequence of (train, test) index arrays
        Whose test parts hold each row once.

    Returns
    -------
    means : ndarray, shape (n_classes, n_features)
    reference : ndarray, shape (m,)
        `cosine_to_nearest` of the out-of-fold rows, sorted; of more than 1,000, as many spread evenly.
    """
    counts = np.bincount(truth)
    sums = [_class_sums(scaled, truth, test) for _, test in folds]
    total = np.sum(sums, axis=0)
    cosines: list[np.ndarray] = []
    for (_, test), inside in zip(folds, sums, strict=True):
        rest = counts - np.bincount(truth[test], minlength=len(counts))
        means = (total - inside) / rest[:, None]
        cosines += [cosine_to_nearest(scaled(rows), means) for rows in _blocks(test)]
    every = np.sort(np.concatenate(cosines))
    kept = np.linspace(0, len(every) - 1, min(len(every), MAX_REFERENCE)).round().astype(int)
    return total / counts[:, None], every[kept]


def _class_sums(scaled: Callable[[np.ndarray], np.ndarray], truth: np.ndarray, rows: np.ndarray) -> np.ndarray:
    classes = np.arange(truth.max() + 1)
    return np.sum([(truth[block] == classes[:, None]).astype(float) @ scaled(block) for block in _blocks(rows)], axis=0)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]


def novelty(cosines: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the share of the reference that is more familiar than each cosine, shape (n,).

    It is one less the conformal p-value ``(1 + less or equally familiar) / (m + 1)`` (Vovk, Gammerman, Shafer 2005):
    of new images like the training images, a share of about ``a`` gets a novelty of ``1 - a`` or more.

    Parameters
    ----------
    cosines : ndarray, shape (n,)
    reference : ndarray, shape (m,)
        Sorted.

    Examples
    --------
    >>> novelty(np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.4, 0.6, 0.8])).tolist()
    [0.8, 0.4, 0.0]
    """
    return (len(reference) - np.searchsorted(reference, cosines, side="right")) / (len(reference) + 1)
