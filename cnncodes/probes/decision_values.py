"""From decision values to answers: which class wins, and how probable each is.

It imports neither scikit-learn nor scipy, whose import takes longer than to label a photograph.
"""

from __future__ import annotations

import numpy as np

__all__ = ["softmax", "two_sided", "winner"]


def winner(decision: np.ndarray) -> np.ndarray:
    """Return the index of the class that decision values of shape (n, n_classes) or (n, 1) name, shape (n,)."""
    return (decision[:, 0] > 0).astype(int) if decision.shape[1] == 1 else decision.argmax(axis=1)


def softmax(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities, shape (n, n_classes), of decision values of that shape, or (n, 1) for two classes.

    Examples
    --------
    >>> softmax(np.array([[0.0, 0.0], [2.0, 0.0]]), 2.0).round(2).tolist()
    [[0.5, 0.5], [0.73, 0.27]]
    """
    scaled = two_sided(scores) / temperature
    below = scaled - scaled.max(axis=1, keepdims=True)
    return np.exp(below - np.log(np.exp(below).sum(axis=1, keepdims=True)))


def two_sided(scores: np.ndarray) -> np.ndarray:
    """Give two classes a column each, whose softmax is the logistic function of the one value that they have."""
    return np.hstack([-scores / 2, scores / 2]) if scores.shape[1] == 1 else scores
