"""Nearest rows of a table of codes, found by blocked matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnncodes.solvers.threads import few_threads

__all__ = ["nearest_pictures", "nearest_rows", "standardised", "unit_parts", "unit_rows", "whitened"]

BLOCK_DISTANCES = 32_000_000  # distances in memory at a time: 128 MB
RIDGE = 2.0  # added to each variance: this times the mean variance times n_features / n_samples
MAX_FEATURES = 4096  # the eigenvectors of more features take longer than the search among as many images


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Return rows divided by their Euclidean length; rows of zeros stay zeros.

    Parameters
    ----------
    X : ndarray of float, shape (..., n_features)

    Returns
    -------
    ndarray, shape of `X`

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    return X / np.maximum(np.linalg.norm(X, axis=-1, keepdims=True), np.finfo(X.dtype).tiny)


def unit_parts(X: np.ndarray, widths: Sequence[int] | None = None) -> np.ndarray:
    """Return rows whose parts each have the Euclidean length 1; parts of zeros stay zeros.

    Parameters
    ----------
    X : ndarray of float, shape (..., n_features)
    widths : sequence of int, optional
        Features of each part, in order; by default a row is one part.

    Returns
    -------
    ndarray, shape of `X`

    Examples
    --------
    >>> unit_parts(np.array([[3.0, 4.0, 5.0]]), [2, 1]).tolist()
    [[0.6, 0.8, 1.0]]
    """
    if widths is None or len(widths) == 1:
        return unit_rows(X)
    return np.concatenate([unit_rows(part) for part in np.split(X, np.cumsum(widths)[:-1], axis=-1)], axis=-1)


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

    Whitening takes weight from what most images share, and so gives it to what tells two of them apart. The columns
    of the result are the coordinates along the principal directions of the codes. The cost follows the smaller side:
    fewer images than features have no more directions than images.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_features)
        With more than 4096 features they are only standardised.

    Returns
    -------
    ndarray of float32, shape (n_samples, min(n_samples, n_features))
        Where codes are only standardised, the shape is (n_samples, n_features).

    Examples
    --------
    >>> Z = whitened(np.array([[0, 5, 1], [0, 5, 3], [4, 5, 1], [4, 5, 3]]))
    >>> np.round(np.abs(Z @ Z.T), 3).tolist()[0]
    [1.0, 0.0, 0.0, 1.0]
    """
    Z = standardised(X)
    if Z.shape[1] <= MAX_FEATURES:
        with few_threads(Z):
            Z = _along_directions(Z)
    return unit_rows(Z)


def _along_directions(Z: np.ndarray) -> np.ndarray:
    """Return centred rows along their principal directions, divided by the deviation there (with the ridge)."""
    n, d = Z.shape
    if n < d:  # Z Z^T = U diag(n variances) U^T: the coordinates are the columns of U, each times its root
        rows = Z.astype(np.float64)  # equal rows must stay equal: their difference is a direction of variance 0
        square = rows @ rows.T / n
    else:
        square = (Z.T @ Z).astype(np.float64) / n
    with few_threads(square):
        variances, coordinates = np.linalg.eigh(square)
    scale = np.sqrt(n * np.maximum(variances, 0)) if n < d else np.ones(d)
    ridge = RIDGE * variances.sum() / n + np.finfo(np.float32).tiny
    coordinates = (coordinates * (scale / np.sqrt(np.maximum(variances, 0) + ridge))).astype(np.float32)
    return coordinates if n < d else Z @ coordinates


def nearest_rows(Z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest other rows of each row, a block of rows at a time.

    Parameters
    ----------
    Z : ndarray of float32, shape (n, n_features)
    k : int
        Number of rows to find for each, at most n - 1.

    Returns
    -------
    rows : ndarray of int, shape (n, k)
        Positions of the nearest rows, the nearest first.
    distances : ndarray, shape (n, k)
        Their Euclidean distances.

    Examples
    --------
    >>> rows, _ = nearest_rows(np.float32([[1, 0], [0, 1], [0.6, 0.8]]), 1)
    >>> rows.ravel().tolist()
    [2, 2, 1]
    """
    n = len(Z)
    rows, nearness = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    step = max(1, BLOCK_DISTANCES // n)
    squares = (Z**2).sum(axis=1)
    for start in range(0, n, step):
        with few_threads(Z):
            block = 2 * (Z[start : start + step] @ Z.T) - squares
        rows[start : start + step], nearness[start : start + step] = _largest_others(block, start, k)
    return rows, np.sqrt(np.maximum(squares[:, None] - nearness, 0))


def nearest_pictures(parts: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the most alike other pictures of each, as they are or mirrored, a block of pictures at a time.

    Parameters
    ----------
    parts : ndarray of float32, shape (n, 2, d)
        What `plain_parts` makes of pictures.
    k : int
        Number of pictures to find for each, at most n - 1.

    Returns
    -------
    rows : ndarray of int, shape (n, k)
        Positions of the most alike pictures, the most alike first.
    differences : ndarray, shape (n, k)
        1 less their correlations.
    """
    n = len(parts)
    rows, nearness = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    step = max(1, BLOCK_DISTANCES // n)
    same, changed = np.ascontiguousarray(parts.swapaxes(0, 1))
    for start in range(0, n, step):
        with few_threads(same):
            block = changed[start : start + step] @ changed.T
            np.abs(block, out=block)
            block += same[start : start + step] @ same.T
        rows[start : start + step], nearness[start : start + step] = _largest_others(block, start, k)
    return rows, 1 - nearness


def _largest_others(block: np.ndarray, start: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns and values of the k largest of each row, the largest first, without row `start` + i itself."""
    n = block.shape[1]
    block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
    top = np.argpartition(block, n - k, axis=1)[:, n - k :]
    values = np.take_along_axis(block, top, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1), np.take_along_axis(values, order, axis=1)
