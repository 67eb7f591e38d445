"""Labels that are probably wrong, by confident learning."""

from __future__ import annotations

import numpy as np

__all__ = ["find_label_errors"]

SLACK = 1e-6  # below a threshold that still counts as reaching it


def find_label_errors(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the images whose labels are probably wrong, the most doubtful first.

    How many there are is estimated by confident learning (Northcutt, Jiang, Chuang 2021): an image counts as one of the
    class whose probability reaches the mean that images with that label have; of several, the most probable. Those
    counted as another class than the given are errors, unless the given one is the most probable. Which images they are
    is said by the lowest probabilities of the given label: of flipped labels that finds more, at more precision, than
    to take the counted ones themselves.

    Parameters
    ----------
    given : ndarray of int, shape (n,)
        Index of the label of each image; every class has some.
    probabilities : ndarray, shape (n, n_classes)
        Out of fold.

    Returns
    -------
    ndarray of int, shape (n_errors,)

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9]])
    >>> find_label_errors(np.array([0, 0, 1, 1, 0]), probabilities).tolist()
    [4]
    """
    counts = np.bincount(given)
    own = probabilities[np.arange(len(given)), given]
    usual = np.bincount(given, own) / counts
    reached = probabilities >= usual - SLACK
    counted = np.where(reached, probabilities, -1.0).argmax(axis=1)
    most_probable = probabilities.argmax(axis=1)
    wrong = reached.any(axis=1) & (counted != given) & (most_probable != given)
    return np.argsort(own, kind="stable")[: wrong.sum()]
