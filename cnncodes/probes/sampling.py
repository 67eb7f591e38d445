"""Samples in which each class has its share."""

from __future__ import annotations

import numpy as np

__all__ = ["stratified_sample"]


def stratified_sample(of_row: np.ndarray, m: int, *, least: int, seed: int) -> np.ndarray:
    """Return which rows are a sample, ascending: each class by its share, but not less than a few images.

    Parameters
    ----------
    of_row : ndarray of int, shape (n,)
        Number of the class of each row, from 0.
    m : int
        Rows of the sample, at most, unless `least` of each class are more.
    least : int
        Rows of each class, at least; a class that has fewer gives all.
    seed : int
        Decides which rows of a class are taken.

    Returns
    -------
    ndarray of int
        All rows, where there are no more than `m`.

    Examples
    --------
    >>> of_row = np.repeat([0, 1], [90, 10])
    >>> np.bincount(of_row[stratified_sample(of_row, 20, least=5, seed=0)]).tolist()
    [14, 5]
    """
    counts = np.bincount(of_row)
    fewest = np.minimum(counts, least)
    rest = counts - fewest
    wanted = fewest + max(m - fewest.sum(), 0) * rest // max(rest.sum(), 1)
    order = np.random.default_rng(seed).permutation(len(of_row))
    order = order[np.argsort(of_row[order], kind="stable")]
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[of_row[order]]
    return np.sort(order[rank < wanted[of_row[order]]])
