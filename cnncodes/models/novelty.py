"""How unlike the training images of a model codes are, a block of codes at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cnncodes.probes.novelty import closeness, cosine_to_nearest, novelty

__all__ = ["novelty_by_blocks"]

BLOCK_ROWS = 8192  # rows that are compared at a time, so that their cosines stay small


def novelty_by_blocks(
    X: np.ndarray,
    scaled: Callable[[np.ndarray], np.ndarray],
    training_codes: np.ndarray | None,
    class_means: np.ndarray,
    familiarity: np.ndarray,
) -> np.ndarray:
    """Return the novelty of codes, shape (n,); see `cnncodes.models.model.ProbeModel.novelty`.

    Parameters
    ----------
    X : ndarray, shape (n, n_features)
        Codes, one view of each image.
    scaled : callable
        Scales codes for an older model file, whose means are those of scaled codes.
    training_codes, class_means, familiarity : ndarray
        As in the model; an older model file has no training codes.
    """
    cosines = np.empty(len(X))
    for start in range(0, len(X), BLOCK_ROWS):
        rows = X[start : start + BLOCK_ROWS]
        cosines[start : start + BLOCK_ROWS] = (
            cosine_to_nearest(scaled(rows), class_means)
            if training_codes is None
            else closeness(rows, training_codes, class_means)
        )
    return novelty(cosines, familiarity)
