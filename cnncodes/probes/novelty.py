"""How unlike all training images a code is, by its cosines to the nearest training codes and class mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnncodes.neighbours.nearest import unit_rows
from cnncodes.probes.sampling import stratified_sample
from cnncodes.solvers.threads import few_threads

__all__ = [
    "MAX_CODES",
    "MAX_REFERENCE",
    "class_means",
    "closeness",
    "cosine_to_nearest",
    "learn_familiarity",
    "novelty",
    "rows_to_keep",
    "to_keep",
]

NEIGHBOURS = 3  # nearest training codes whose cosines are averaged
NEIGHBOUR_WEIGHT = 0.8  # weight of that average; the rest is that of the nearest class mean
MAX_CODES = 1000  # training codes that are kept, at most, unless there are more than 500 classes
LEAST_CODES = 2  # training codes that are kept of each class, at least
MAX_CODE_BYTES = 4 << 20  # bytes of the codes that are kept, at most, as float16
MAX_REFERENCE = 1000  # cosines of training codes in older model files: novelty is then known to 0.001
SEED = 0  # decides which training codes are kept


def cosine_to_nearest(X: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return the cosine between each code and the class mean that is nearest in angle, both seen from the middle.

    The middle is that of the class means, so that a large class does not draw it to itself. Older model files are read
    by this measure alone, of scaled codes.

    Parameters
    ----------
    X : ndarray, shape (n, n_features)
        Codes.
    means : ndarray, shape (n_classes, n_features)

    Returns
    -------
    ndarray, shape (n,)
        Between -1 and 1; 0 for a code in the middle itself.
    """
    middle = means.mean(axis=0)
    return (unit_rows(X - middle) @ unit_rows(means - middle).T).max(axis=1).clip(-1, 1)


def closeness(X: np.ndarray, codes: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return how near each code is to the training codes: a weighted mean of two cosines, of codes of length 1.

    Four fifths are the mean cosine to the three nearest training codes, which tells images of another kind; one fifth
    is `cosine_to_nearest`, which tells other classes of the same kind. Codes are taken as the network gives them:
    scaling each feature would draw the weight to features that hardly vary among the training images.

    Parameters
    ----------
    X : ndarray, shape (n, n_features)
        Codes, not scaled.
    codes : ndarray of float16, shape (m, n_features)
        Training codes of length 1; where there are fewer than three, all are averaged.
    means : ndarray, shape (n_classes, n_features)
        Class means of training codes of length 1.

    Returns
    -------
    ndarray of float64, shape (n,)
        Between -1 and 1.

    Examples
    --------
    >>> codes = np.float16([[1, 0], [0, 1], [0, 1], [-1, 0]])
    >>> closeness(np.array([[2.0, 0.0]]), codes, np.array([[1.0, 0.0], [0.0, 1.0]])).round(3).tolist()
    [0.467]
    """
    unit = unit_rows(np.asarray(X, np.float32))
    with few_threads(unit):
        cosines = unit @ codes.astype(np.float32).T
        to_means = cosine_to_nearest(unit.astype(np.float64), means)
    k = min(NEIGHBOURS, cosines.shape[1])
    nearest = np.partition(cosines, -k, axis=1)[:, -k:].mean(axis=1, dtype=np.float64)
    return (NEIGHBOUR_WEIGHT * nearest + (1 - NEIGHBOUR_WEIGHT) * to_means).clip(-1, 1)


def learn_familiarity(
    codes: Callable[[np.ndarray], np.ndarray],
    truth: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what new codes are compared with, and how close training codes are to those that are not of their fold.

    Parameters
    ----------
    codes : callable
        Gives the codes, shape (n_rows, n_features), of an array of row numbers.
    truth : ndarray of int, shape (n_samples,)
        Index of the class of each row.
    folds : sequence of (train, test) index arrays
        Whose test parts hold each row once. Images of one group, and near-duplicates, are in one test part, so that no
        image looks familiar for its own copy.

    Returns
    -------
    kept : ndarray of float16, shape (m, n_features)
        Codes divided by their length; those of more than 1,000 images, or of more than 4 MiB, are a sample in which
        each class has its share.
    means : ndarray of float64, shape (n_classes, n_features)
        Class means of these codes.
    reference : ndarray, shape (m,)
        `closeness` of the same rows, computed out of fold, sorted.
    """
    fold_of = np.empty(len(truth), int)
    for number, (_, test) in enumerate(folds):
        fold_of[test] = number
    rows = rows_to_keep(truth, codes(np.arange(1)).shape[1])
    kept = to_keep(codes(rows))
    fold_of, truth, reference = fold_of[rows], truth[rows], np.empty(len(rows))
    for number in np.unique(fold_of):
        inside = fold_of == number
        rest = kept[~inside]
        reference[inside] = closeness(kept[inside], rest, class_means(rest, truth[~inside]))
    return kept, class_means(kept, truth), np.sort(reference)


def rows_to_keep(truth: np.ndarray, n_features: int) -> np.ndarray:
    """Return the rows whose codes a model keeps, ascending: all, or a sample in which each class has its share.

    Parameters
    ----------
    truth : ndarray of int, shape (n_samples,)
        Index of the class of each row.
    n_features : int
    """
    at_most = min(MAX_CODES, MAX_CODE_BYTES // (2 * n_features))
    return stratified_sample(truth, at_most, least=LEAST_CODES, seed=SEED)


def to_keep(codes: np.ndarray) -> np.ndarray:
    """Return codes as a model keeps them: of length 1, in float16."""
    return unit_rows(np.asarray(codes, np.float32)).astype(np.float16)


def class_means(codes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean code of each class that there is, shape (n_classes, n_features), in float64."""
    return np.stack([codes[truth == label].mean(axis=0, dtype=np.float64) for label in np.unique(truth)])


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
