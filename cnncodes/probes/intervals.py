"""Intervals that hold an accuracy, or a difference of two, with a chance that is stated."""

from __future__ import annotations

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri, stdtrit

__all__ = ["balanced_interval", "design_effect", "error_bars", "paired_interval", "wilson_interval"]


def error_bars(values: ArrayLike, intervals: ArrayLike) -> np.ndarray:
    """Return how far intervals reach below and above values, as matplotlib draws them; rounding makes none negative.

    Parameters
    ----------
    values : array-like of float, shape (n,)
    intervals : array-like of float, shape (n, 2)

    Returns
    -------
    ndarray, shape (2, n)

    Examples
    --------
    >>> error_bars([0.5, 1.0], [(0.25, 0.75), (0.5, 1.0 - 1e-16)]).tolist()
    [[0.25, 0.5], [0.25, 0.0]]
    """
    low, high = np.asarray(intervals, float).T
    at = np.asarray(values, float)
    return np.maximum([at - low, high - at], 0)


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
    z = float(ndtri(0.5 + confidence / 2))
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


def design_effect(
    values: np.ndarray, groups: np.ndarray | None, confidence: float = 0.95, *, of_class: np.ndarray | None = None
) -> float:
    """Return by what to divide a number of images, as images of a group tend to be right or wrong together.

    It is the variance of the mean with whole groups drawn, over that with images drawn one by one (Kish 1965), and at
    least 1. Each group, or image, is compared with the mean of the others, as the jackknife does (CR3 of Bell,
    McCaffrey 2002): one group with most of the images makes the mean, and would seem typical beside that. The effect is
    multiplied by the squared ratio of Student's quantiles for both variances (Korn, Graubard 1998), with degrees of
    freedom for groups of these sizes (Satterthwaite 1946). Both variances have half an image more whose value is off by
    one, in a group that is off with it: few images that differ from the mean say little of whether groups do.

    Parameters
    ----------
    values : ndarray, shape (n,)
        What the mean is of, such as how often each image was labelled right, from 0 to 1.
    groups : ndarray of str, shape (n,), optional
        An empty string means a group of its own.
    confidence : float, default=0.95
        The chance with which the interval is to hold.
    of_class : ndarray of int, shape (n,), optional
        Numbers of the classes from 0. The effect is then for the mean of the classes' means. Each class has one image
        more, with the mean of all values, so that a class which is a single group is compared with that.

    Examples
    --------
    >>> right = np.repeat([1.0, 0.0, 1.0], [60, 20, 20])
    >>> round(design_effect(right, np.repeat(["a", "b", "c", "d", "e"], 20)), 1)
    48.2
    >>> design_effect(right, None)
    1.0
    """
    if groups is None or not (groups != "").any():
        return 1.0
    n = len(groups)
    _, of_group = np.unique(groups, return_inverse=True)
    _, of_group = np.unique(np.where(groups == "", n + np.arange(n), of_group), return_inverse=True)
    sizes = np.bincount(of_group)
    if sizes.max() == n:
        return float(n)
    if of_class is None:
        of_class = np.zeros(n, int)
    between, freedom = _jackknife(values, of_group, of_class)
    within, freedom_of_images = _jackknife(values, np.arange(n), of_class)
    half_an_image = 0.5 * float((np.bincount(of_class)[of_class] ** -2.0).mean())
    effect = max(1.0, (between + half_an_image * float((sizes**2).sum()) / n) / (within + half_an_image))
    at = 0.5 + confidence / 2
    return float(effect * (stdtrit(freedom, at) / stdtrit(freedom_of_images, at)) ** 2)


def _jackknife(values: np.ndarray, of_group: np.ndarray, of_class: np.ndarray) -> tuple[float, float]:
    """Return the variance of the sum of the classes' means, from leaving out each group, and its degrees of freedom.

    The variance is unbiased if the images of a group in a class all have the same value. The degrees of freedom are
    tr(A)² / tr(A²), where A is the covariance of the changes that the groups make, if all images are independent and
    vary as much. A is a diagonal matrix less L Lᵀ, with a column of L for each class.
    """
    n = np.bincount(of_class)
    extra = int(len(n) > 1)  # images that are as the mean of all, in each class
    size = n + extra
    cells, of_cell, m = np.unique(of_group * len(n) + of_class, return_inverse=True, return_counts=True)
    group, label = np.divmod(cells, len(n))
    mean = (np.bincount(of_class, values) + extra * values.mean()) / size
    others = size[label] - m
    of_others = (np.bincount(label, m**2)[label] - m**2) / others**2  # variance of their mean, if groups are all alike
    weight = size[label] / (n[label] * others * np.sqrt(1 + of_others))
    change = np.bincount(group, weight * (np.bincount(of_cell, values) - m * mean[label]))
    diagonal = np.bincount(group, weight**2 * m)
    entries = weight * m * (np.sqrt(n + 2 * extra) / size)[label]
    L = csr_array((entries, (group, label)))
    squares = np.bincount(group, entries**2)
    trace_of_square = (diagonal**2).sum() - 2 * diagonal @ squares + (L.T @ L).power(2).sum()
    freedom = (diagonal - squares).sum() ** 2 / trace_of_square
    return float((change**2).sum()), float(freedom)


def paired_interval(
    a: np.ndarray,
    b: np.ndarray,
    confidence: float = 0.95,
    *,
    best_of: int = 2,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
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
    groups : ndarray of str, shape (n,), optional
        As for `design_effect`.

    Examples
    --------
    >>> low, high = paired_interval(np.repeat([1.0, 0.0], [90, 10]), np.repeat([1.0, 0.0], [80, 20]))
    >>> round(low, 3), round(high, 3)
    (0.036, 0.16)
    """
    n = len(a) + 2
    difference = np.asarray(a, float) - np.asarray(b, float)
    mean = float(difference.sum()) / n
    effect = design_effect(difference, groups, confidence)
    deviation = np.sqrt(max(0.0, (float((difference**2).sum()) + 1) / n - mean**2) / n * effect)
    below = 0.5 + confidence / 2
    above = _chance_of_each(below, best_of - 1)
    low, high = mean - stdtrit(n - 1, below) * deviation, mean + stdtrit(n - 1, above) * deviation
    return max(-1.0, float(low)), min(1.0, float(high))


def _chance_of_each(together: float, rivals: int) -> float:
    """Return the chance with which each of several normal differences to one reference must stay below a value.

    Such that all of them do `together`; it is the level of Dunnett's (1955) one-sided quantile.
    """
    if rivals < 2:
        return together
    at, weights = hermegauss(64)

    def excess(z: float) -> float:
        return float(weights @ ndtr(np.sqrt(2) * z + at) ** rivals / weights.sum()) - together

    return float(ndtr(brentq(excess, 0, 10)))
