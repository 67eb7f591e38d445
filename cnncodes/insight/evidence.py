"""Collects what speaks for which case of transfer learning a data set is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from cnncodes.insight.comparison import Comparison, Row
from cnncodes.insight.learning_curve import LearningCurve
from cnncodes.insight.pretrained_head import PretrainedHead
from cnncodes.neighbours.nearest import unit_rows
from cnncodes.vocabulary import PENULTIMATE

__all__ = [
    "PENULTIMATE",
    "UNDECIDED",
    "Evidence",
    "best_by_log_loss",
    "by_depth",
    "by_log_loss",
    "by_slope",
    "images_per_class",
    "mean_cosine",
    "of_pretrained_head",
    "of_spread",
    "similarity_of",
    "size_of",
]

LARGE, SMALL = 1000, 200  # images of a class; ImageNet has about 1,300. Between the two the learning curve decides
WORTHWHILE_GAIN = 0.01  # accuracy that twice as many images should add to be worth it
SURE, UNSURE = 0.8, 0.65  # mean confidence of the pretrained head, relative to that on photographs
# Mean cosine of two images, from which the network hardly tells them apart. By mobilenet_v2: photographs 0.61, drawn
# icons 0.63, letters 0.66, clothes 0.69, and handwritten digits, which the head is nevertheless sure of, 0.92
ALIKE = 0.8
MIN_IMAGES_FOR_SPREAD = 20  # fewer say nothing about how alike the images are
UNDECIDED = "undecided"


@dataclass(frozen=True)
class Evidence:
    """One observation.

    Attributes
    ----------
    what : str
    found : str
        With its figures.
    says : str
        ``small``, ``large``, ``similar``, ``dissimilar``, ``undecided``, or nothing where it is for information.
    """

    what: str
    found: str
    says: str = ""


def images_per_class(y: np.ndarray) -> Evidence:
    """Count the images of each class."""
    counts = np.unique(y, return_counts=True)[1]
    median = float(np.median(counts))
    found = f"{median:.0f} in the median of {len(counts)} classes, from {counts.min()} to {counts.max()}"
    return Evidence("images a class", found, "large" if median >= LARGE else "small" if median <= SMALL else UNDECIDED)


def by_slope(curve: LearningCurve, decided: bool) -> Evidence:
    """Call a set small, where the number of images does not decide, if twice as many would still help."""
    low, high = curve.gain_interval
    found = f"twice as many images would bring {_points(curve.gain)} points ({_points(low)} to {_points(high)})"
    says = "small" if low > WORTHWHILE_GAIN else "large" if high < WORTHWHILE_GAIN else UNDECIDED
    return Evidence("learning curve", found, "" if decided else says)


def by_log_loss(comparison: Comparison) -> Evidence:
    """List the log loss of each layer: the layer is chosen by it."""
    found = ", ".join(f"{row.name} {row.log_loss:.3f}" for row in sorted(comparison.probes, key=_log_loss))
    return Evidence("log loss by layer", f"{found}; the smallest is the best")


def best_by_log_loss(probes: list[Row]) -> Row:
    """Return the probe whose cross-validated probabilities are nearest to the labels."""
    return min(probes, key=_log_loss)


def _log_loss(row: Row) -> float:
    return math.inf if row.log_loss is None else row.log_loss  # a baseline has none, and comes last


def by_depth(comparison: Comparison) -> list[Evidence]:
    """Compare the top layer with the best of the earlier ones."""
    top = next((row for row in comparison.probes if row.layers == [PENULTIMATE]), None)
    earlier = [row for row in comparison.probes if row is not top]
    if top is None or not earlier:
        return []
    best = best_by_log_loss(earlier)
    low, high = comparison.interval(best, top)
    ours, theirs = best.accuracy.value, top.accuracy.value
    found = (
        f"{best.layers[0]} {ours:.1%}, {PENULTIMATE} {theirs:.1%}: "
        f"{_points(ours - theirs)} points ({_points(low)} to {_points(high)})"
    )
    return [Evidence("accuracy by depth", found, "dissimilar" if low > 0 else "similar" if high < 0 else UNDECIDED)]


def of_pretrained_head(codes: np.ndarray, head: PretrainedHead) -> Evidence:
    """Ask the head that the network was trained with.

    The mean must be clear, and its 95 % interval must not reach what would say the opposite: few images decide nothing.
    """
    each, there = head.confidence(codes), float(head.confidence(head.photos).mean())
    n, here = len(each), float(each.mean())
    half = float(t.ppf(0.975, n - 1) * each.std(ddof=1) / np.sqrt(n)) if n > 1 else 1.0
    low, high = max(0.0, here - half), min(1.0, here + half)
    sure, unsure = SURE * there, UNSURE * there
    says = UNDECIDED
    if here > sure and low > unsure:
        says = "similar"
    elif here < unsure and high < sure:
        says = "dissimilar"
    found = f"mean confidence {here:.2f} ({low:.2f} to {high:.2f}), of photographs {there:.2f}"
    return Evidence("pretrained head", found, says)


def of_spread(codes: np.ndarray, head: PretrainedHead) -> Evidence:
    """Look at how far the codes spread: where all are alike, a head may be sure of them without knowing them."""
    close, closer = (mean_cosine(some) for some in (codes, head.photos))
    says = "dissimilar" if close > ALIKE and len(codes) >= MIN_IMAGES_FOR_SPREAD else ""
    found = f"mean cosine of two images {close:.2f}, of two photographs {closer:.2f}"
    return Evidence("spread of the codes", found, says)


def mean_cosine(codes: np.ndarray) -> float:
    """Return the mean over all pairs, without making them: the squared length of a sum holds them all."""
    unit = unit_rows(codes)
    n = len(unit)
    return float((np.linalg.norm(unit.sum(axis=0, dtype=np.float64)) ** 2 - n) / max(1, n * (n - 1)))


def size_of(evidence: list[Evidence]) -> str:
    """Return what all evidence that says something says."""
    verdicts = {item.says for item in evidence} - {"", UNDECIDED}
    return verdicts.pop() if len(verdicts) == 1 else UNDECIDED


def similarity_of(strongest_first: list[Evidence], spread: list[Evidence]) -> str:
    """Return what the first says that decides; codes that are all alike keep it from saying that they are similar."""
    decided = next((item for item in strongest_first if item.says not in ("", UNDECIDED)), None)
    return UNDECIDED if decided is None else size_of([decided, *spread])


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
