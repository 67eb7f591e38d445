"""How the rows of several views become rows of images.

Codes of images without views have the shape (n, n_features); several views of each image add a middle axis,
(n, n_views, n_features).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["as_rows", "averaged", "repeated", "summed"]


def as_rows(X: np.ndarray) -> np.ndarray:
    """Return codes with a row for each view, shape (n * n_views, n_features); codes without views as they are."""
    return X.reshape(-1, X.shape[-1])


def repeated(y: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Return what belongs to the rows of `as_rows`, given what belongs to each image, shape (n,)."""
    return y if X.ndim == 2 else y.repeat(X.shape[1])


def summed(decision: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Sum the decision values of an image's views.

    Parameters
    ----------
    decision : ndarray, shape (..., n * n_views, k)
        Decision values of the rows of `as_rows`.
    X : ndarray, shape (m, n_features) or (m, n_views, n_features)
        Codes of these or of other images: it says how many views there are.

    Returns
    -------
    ndarray, shape (..., n, k)

    Examples
    --------
    >>> import numpy as np
    >>> summed(np.array([[1.0], [2.0], [30.0], [40.0]]), np.zeros((2, 2, 5)))
    array([[ 3.],
           [70.]])
    """
    if X.ndim == 2:
        return decision
    return decision.reshape(*decision.shape[:-2], -1, X.shape[1], decision.shape[-1]).sum(axis=-2)


def averaged(X: np.ndarray) -> np.ndarray:
    """Return the mean of the codes of each image's views, shape (n, n_features): one row for an image."""
    return X if X.ndim == 2 else X.mean(axis=1)
