"""Weights of images, as users of scikit-learn give them."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncodes.errors import SettingError

__all__ = ["image_weights"]


def image_weights(sample_weight: Any, n: int) -> np.ndarray:
    """Return a weight for each image.

    Parameters
    ----------
    sample_weight : array-like of shape (n,), number or None
        None means that all images weigh the same.
    n : int
        Number of images.

    Raises
    ------
    SettingError
        There is not one finite number for each image, or none is positive.
    """
    try:
        weights = np.asarray(1 if sample_weight is None else sample_weight, dtype=float)
    except (TypeError, ValueError):
        weights = np.array(np.nan)
    if weights.shape not in ((), (n,)) or not np.isfinite(weights).all():
        raise SettingError(f"sample_weight is not one finite number for each of the {n} images")
    if not (weights > 0).any():
        raise SettingError("sample_weight is positive for no image; those without a positive weight are left out")
    return np.broadcast_to(weights, n)
