"""Probabilities of decision values: a softmax whose temperature is fitted to held-out ones."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from cnncodes.probes.decision_values import softmax, two_sided

__all__ = ["brier_score", "fit_temperature", "log_loss", "log_losses"]

LOG_TEMPERATURES = (-20.0, 7.0)  # searched; decision values at the smallest C of the grid differ by about 1e-6


def fit_temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature that makes `softmax` of decision values most likely (Guo et al. 2017).

    Where every out-of-fold decision is right, the likelihood alone would make each answer certain. So one answer in
    n + 2 counts as wrong (the rule of succession; Platt 1999 did the same for his sigmoid).

    Parameters
    ----------
    scores : ndarray, shape (n, n_classes) or (n, 1)
        Out-of-fold decision values.
    truth : ndarray of int, shape (n,)
        Index of the true class of each.
    """
    sides = two_sided(scores)
    n, k = sides.shape
    wrong = 1 / (n + 2)
    others = sides.sum(axis=1) - sides[np.arange(n), truth]
    target = ((1 - wrong) * sides[np.arange(n), truth] + wrong / (k - 1) * others).mean()
    top = sides.max(axis=1, keepdims=True)
    below, lead = sides - top, top.mean() - target

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.log(np.exp(below * inverse).sum(axis=1)).mean() + inverse * lead)

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))


def brier_score(scores: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Return the mean squared distance of the probabilities from certainty of the true classes (Brier 1950).

    Parameters
    ----------
    scores : ndarray, shape (n, n_classes) or (n, 1)
    truth : ndarray of int, shape (n,)
    temperature : float

    Examples
    --------
    >>> brier_score(np.log([[0.5, 0.25, 0.25]]), np.array([0]), 1.0)
    0.375
    """
    wrong = softmax(scores, temperature)
    wrong[np.arange(len(truth)), truth] -= 1
    return float((wrong**2).sum(axis=1).mean())


def log_loss(scores: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Return the mean negative log-likelihood of the true classes.

    Parameters
    ----------
    scores : ndarray, shape (n, n_classes) or (n, 1)
    truth : ndarray of int, shape (n,)
    temperature : float
    """
    return float(log_losses(scores, truth, temperature).mean())


def log_losses(scores: np.ndarray, truth: np.ndarray, temperature: float) -> np.ndarray:
    """Return the negative log-likelihood of the true class of each image, shape (n,).

    Parameters
    ----------
    scores : ndarray, shape (n, n_classes) or (n, 1)
    truth : ndarray of int, shape (n,)
    temperature : float
    """
    return np.asarray(-log_softmax(two_sided(scores) / temperature, axis=1)[np.arange(len(truth)), truth])
