"""Intervals that hold an accuracy, or a difference of two, with a chance that is stated."""

from __future__ import annotations

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import brentq
from scipy.stats import norm, t

__all__ = ["balanced_interval", "paired_interval", "wilson_interval"]


def wilson_interval(correct: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for a proportion (Wilson 1927; recommended by Brown, Cai, DasGupta 2001).

    Parameters
    ----------
    correct, n : float
        Successes and trials.
    confidence : float

    Examples
    --------
    >>> low, high = wilson_interval(90, 100)
    >>> round(low, 4), round(high, 4)
    (0.8256, 0.9448)
    """
    z = float(norm.ppf(0.5 + confidence / 2))
    p = correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def balanced_interval(correct: np.ndarray, n: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval for balanced accuracy, the mean of the classes' recalls.

    It is Wilson's, for as many trials as one proportion would need to have the variance that this mean has. Each recall
    enters that variance as (correct + 1) / (n + 2), so that a class without a mistake is not taken for certain.

    Parameters
    ----------
    correct, n : ndarray, shape (n_classes,)
        Right answers and images of each class.

    Examples
    --------
    >>> low, high = balanced_interval(np.array([45, 45]), np.array([50, 50]))
    >>> round(low, 2), round(high, 2)  # Wilson's for 90 of 100 is 0.83 to 0.94
    (0.83, 0.94)
    """
    smooth = (correct + 1) / (n + 2)
    variance = (smooth * (1 - smooth) / n).sum() / len(n) ** 2
    trials = float(smooth.mean() * (1 - smooth.mean()) / variance)
    return wilson_interval(float((correct / n).mean()) * trials, trials, confidence)


def paired_interval(a: np.ndarray, b: np.ndarray, confidence: float = 0.95, *, best_of: int = 2) -> tuple[float, float]:
    """Return an interval for the difference of two accuracies on the same images.

    It is Student's for the mean of the images' differences, with half an image more in each cell of the table of right
    and wrong answers (Agresti, Min 2005), so that few images without a difference are not taken for certain.

    What is best of several owes some of that to chance. So the upper end for the difference to it allows for all that
    it was the best of (multiple comparisons with the best, Hsu 1984).

    Parameters
    ----------
    a, b : ndarray, shape (n,)
        How often each image was labelled right, from 0 to 1.
    confidence : float
    best_of : int
        Among how many `b` was found to be the best.

    Examples
    --------
    >>> low, high = paired_interval(np.repeat([1.0, 0.0], [90, 10]), np.repeat([1.0, 0.0], [80, 20]))
    >>> round(low, 3), round(high, 3)
    (0.036, 0.16)
    """
    n = len(a) + 2
    difference = np.asarray(a, float) - np.asarray(b, float)
    mean = float(difference.sum()) / n
    deviation = np.sqrt(max(0.0, (float((difference**2).sum()) + 1) / n - mean**2) / n)
    below = 0.5 + confidence / 2
    above = _chance_of_each(below, best_of - 1)
    return mean - float(t.ppf(below, n - 1) * deviation), mean + float(t.ppf(above, n - 1) * deviation)


def _chance_of_each(together: float, rivals: int) -> float:
    """Return the chance with which each of several normal differences to one reference must stay below a value.

    Such that all of them do `together`; it is the level of Dunnett's (1955) one-sided quantile.
    """
    if rivals < 2:
        return together
    at, weights = hermegauss(64)

    def excess(z: float) -> float:
        return float(weights @ norm.cdf(np.sqrt(2) * z + at) ** rivals / weights.sum()) - together

    return float(norm.cdf(brentq(excess, 0, 10)))
