"""Nearest rows of a table of codes, found by blocked matrix products."""

from __future__ import annotations

import numpy as np

__all__ = ["nearest_rows", "standardised", "whitened"]

BLOCK = 32_000_000  # distances held at once: 128 MB
RIDGE = 2.0  # times n_features / n_samples: of the mean variance, added to each, as few images tell little of them
WIDEST = 4096  # features; the covariance of more takes longer than the search


def standardised(X: np.ndarray) -> np.ndarray:
    """Return codes with features of mean 0 and deviation 1.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_features)
        Features that hardly vary become 0.

    Returns
    -------
    ndarray of float32, shape (n_samples, n_features)
    """
    Z = X.astype(np.float32)
    Z -= Z.mean(axis=0)
    deviation = Z.std(axis=0)
    Z /= np.where(deviation > 1e-6 * deviation.max(initial=0.0), deviation, np.inf)
    return Z


def whitened(X: np.ndarray) -> np.ndarray:
    """Return codes centred, with directions of equal variance, each row then scaled to length 1.

    Whitening takes weight from what most images share, and so gives it to what tells two of them apart.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_features)
        With more than 4096 features they are only standardised.

    Returns
    -------
    ndarray of float32, shape (n_samples, n_features)
    """
    Z = standardised(X)
    if Z.shape[1] <= WIDEST:
        variances, directions = np.linalg.eigh((Z.T @ Z).astype(np.float64) / len(Z))
        ridge = RIDGE * Z.shape[1] / len(Z) * variances.mean() + np.finfo(np.float32).tiny
        Z = Z @ (directions / np.sqrt(np.maximum(variances, 0) + ridge)).astype(np.float32)
    return Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def nearest_rows(Z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest other rows of each row, a block of rows at a time.

    Parameters
    ----------
    Z : ndarray of float32, shape (n, n_features)
    k : int
        At most n - 1.

    Returns
    -------
    rows : ndarray of int, shape (n, k)
        Nearest first.
    distances : ndarray, shape (n, k)
        Euclidean.

    Examples
    --------
    >>> rows, _ = nearest_rows(np.float32([[1, 0], [0, 1], [0.6, 0.8]]), 1)
    >>> rows.ravel().tolist()
    [2, 2, 1]
    """
    n = len(Z)
    rows, nearness = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    step = max(1, BLOCK // n)
    squares = (Z**2).sum(axis=1)
    for start in range(0, n, step):
        block = 2 * (Z[start : start + step] @ Z.T) - squares
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        top = np.argpartition(block, n - k, axis=1)[:, n - k :]
        values = np.take_along_axis(block, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[start : start + step] = np.take_along_axis(top, order, axis=1)
        nearness[start : start + step] = np.take_along_axis(values, order, axis=1)
    return rows, np.sqrt(np.maximum(squares[:, None] - nearness, 0))
