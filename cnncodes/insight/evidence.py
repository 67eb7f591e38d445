"""The evidence for which of the four cases of transfer learning a data set is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from cnncodes.display import points
from cnncodes.insight.comparison import Comparison, Row
from cnncodes.insight.learning_curve import LearningCurve
from cnncodes.insight.pretrained_head import PretrainedHead
from cnncodes.neighbours.nearest import unit_rows
from cnncodes.vocabulary import PENULTIMATE

__all__ = [
    "UNDECIDED",
    "Evidence",
    "best_by_log_loss",
    "by_depth",
    "by_log_loss",
    "by_pretrained_head",
    "by_slope",
    "by_spread",
    "images_per_class",
    "mean_cosine",
    "similarity_of",
    "size_of",
]

# Images per class; ImageNet has about 1,300. Between the two numbers the learning curve decides
LARGE_CLASS, SMALL_CLASS = 1000, 200
WORTHWHILE_GAIN = 0.01  # accuracy that twice as many images should add to be worth it
SURE_HEAD, UNSURE_HEAD = 0.8, 0.65  # mean confidence of the pretrained head, relative to its confidence on photographs
# Mean cosine of two images above which the network hardly tells them apart. With mobilenet_v2 it is 0.61 for
# photographs, 0.63 for drawn icons, 0.66 for letters, 0.69 for clothes, and 0.92 for handwritten digits, of which the
# head is sure in spite of that
MAX_MEAN_COSINE = 0.8
MIN_IMAGES_FOR_SPREAD = 20  # fewer say nothing about how alike the images are
UNDECIDED = "undecided"


@dataclass(frozen=True)
class Evidence:
    """One observation.

    Attributes
    ----------
    what : str
        Name of the observation.
    found : str
        The observation itself, with its figures.
    says : str
        ``small``, ``large``, ``similar``, ``dissimilar``, ``undecided``, or an empty string if it is only information.
    """

    what: str
    found: str
    says: str = ""


def images_per_class(y: np.ndarray) -> Evidence:
    """Count the images of each class."""
    counts = np.unique(y, return_counts=True)[1]
    median = float(np.median(counts))
    figures = f"{median:.0f} in the median of {len(counts)} classes, from {counts.min()} to {counts.max()}"
    says = "large" if median >= LARGE_CLASS else "small" if median <= SMALL_CLASS else UNDECIDED
    return Evidence("images a class", figures, says)


def by_slope(curve: LearningCurve, decided: bool) -> Evidence:
    """Call a set small if twice as many images would still help; it is only information if the number has decided."""
    low, high = curve.gain_interval
    figures = f"twice as many images would bring {points(curve.gain)} points ({points(low)} to {points(high)})"
    says = "small" if low > WORTHWHILE_GAIN else "large" if high < WORTHWHILE_GAIN else UNDECIDED
    return Evidence("learning curve", figures, "" if decided else says)


def by_log_loss(comparison: Comparison) -> Evidence:
    """List the log loss of each layer, by which one is recommended."""
    figures = ", ".join(f"{row.name} {row.log_loss:.3f}" for row in sorted(comparison.probes, key=_log_loss))
    return Evidence("log loss by layer", f"{figures}; smaller is better")


def best_by_log_loss(probes: list[Row]) -> Row:
    """Return the probe whose cross-validated probabilities are nearest to the labels."""
    return min(probes, key=_log_loss)


def _log_loss(row: Row) -> float:
    return math.inf if row.log_loss is None else row.log_loss  # a baseline has none, and comes last


def by_depth(comparison: Comparison) -> list[Evidence]:
    """Compare the top layer with the best of the earlier ones."""
    top = next((row for row in comparison.probes if row.layers == [PENULTIMATE]), None)
    earlier = [row for row in comparison.probes if row is not top and len(row.layers) == 1]
    if top is None or not earlier:
        return []
    best = best_by_log_loss(earlier)
    low, high = comparison.interval(best, top)
    best_accuracy, top_accuracy = best.accuracy.value, top.accuracy.value
    figures = (
        f"{best.layers[0]} {best_accuracy:.1%}, {PENULTIMATE} {top_accuracy:.1%}: "
        f"{points(best_accuracy - top_accuracy)} points ({points(low)} to {points(high)})"
    )
    return [Evidence("accuracy by depth", figures, "dissimilar" if low > 0 else "similar" if high < 0 else UNDECIDED)]


def by_pretrained_head(codes: np.ndarray, head: PretrainedHead) -> Evidence:
    """Judge by how sure the head is with which the network was trained.

    Its mean confidence must pass one threshold, and the 95 % interval must not reach the other one: a few images decide
    nothing.
    """
    confidences, photo_mean = head.confidence(codes), float(head.confidence(head.photos).mean())
    n, mean = len(confidences), float(confidences.mean())
    half_width = float(stdtrit(n - 1, 0.975) * confidences.std(ddof=1) / np.sqrt(n)) if n > 1 else 1.0
    low, high = max(0.0, mean - half_width), min(1.0, mean + half_width)
    sure, unsure = SURE_HEAD * photo_mean, UNSURE_HEAD * photo_mean
    says = UNDECIDED
    if mean > sure and low > unsure:
        says = "similar"
    elif mean < unsure and high < sure:
        says = "dissimilar"
    figures = f"mean confidence {mean:.2f} ({low:.2f} to {high:.2f}), of photographs {photo_mean:.2f}"
    return Evidence("pretrained head", figures, says)


def by_spread(codes: np.ndarray, head: PretrainedHead) -> Evidence:
    """Judge by how alike the codes are: a head may be sure of images that it cannot tell apart."""
    cosine, photo_cosine = mean_cosine(codes), mean_cosine(head.photos)
    says = "dissimilar" if cosine > MAX_MEAN_COSINE and len(codes) >= MIN_IMAGES_FOR_SPREAD else ""
    figures = f"mean cosine of two images {cosine:.2f}, of two photographs {photo_cosine:.2f}"
    return Evidence("spread of the codes", figures, says)


def mean_cosine(codes: np.ndarray) -> float:
    """Return the mean cosine over all pairs, computed from the squared length of the sum of all unit vectors."""
    unit = unit_rows(codes)
    n = len(unit)
    return float((np.linalg.norm(unit.sum(axis=0, dtype=np.float64)) ** 2 - n) / max(1, n * (n - 1)))


def size_of(evidence: list[Evidence]) -> str:
    """Return the verdict of the evidence that has one, or ``undecided`` if there is none or they differ."""
    verdicts = {item.says for item in evidence} - {"", UNDECIDED}
    return verdicts.pop() if len(verdicts) == 1 else UNDECIDED


def similarity_of(strongest_first: list[Evidence], spread: list[Evidence]) -> str:
    """Return the strongest verdict, or ``undecided`` if there is none or codes that are all alike contradict it."""
    strongest = next((item for item in strongest_first if item.says not in ("", UNDECIDED)), None)
    return UNDECIDED if strongest is None else size_of([strongest, *spread])
