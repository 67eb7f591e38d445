"""Which of the probes of a comparison is recommended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnncodes.insight.comparison import Row
from cnncodes.probes.intervals import design_effect
from cnncodes.vocabulary import PENULTIMATE

__all__ = ["recommended"]

NOISE = 1.0  # standard errors of a difference of log losses within which the default is as good as the best


def recommended(probes: Sequence[Row], losses: Sequence[np.ndarray], groups: np.ndarray | None = None) -> int:
    """Return which probe is recommended: that of the smallest log loss, or the default where that is about as good.

    The default is a linear SVM on two layers, the last one among them, or on the last one alone. It is as good where
    its mean loss is within a standard error of the smallest one; benchmarks/README.md has what other rules cost.

    Parameters
    ----------
    probes : sequence of Row
    losses : sequence of ndarray, shape (n,)
        Cross-validated log loss of each image by each probe.
    groups : ndarray of str, shape (n,), optional
        Images of a group are not independent, so the standard error counts groups; an empty string means a group of its
        own.

    Returns
    -------
    int
        Place in `probes`.
    """

    def preference(number: int) -> tuple[bool, bool, int, bool, float]:
        row, last = probes[number], PENULTIMATE in probes[number].layers
        fewer_than_three = len(row.layers) < 3
        return last and len(row.layers) == 2, last and fewer_than_three, row.depth, row.clf == "svm", -means[number]

    means = [float(loss.mean()) for loss in losses]
    best, default = int(np.argmin(means)), max(range(len(probes)), key=preference)
    excess = losses[default] - losses[best]
    error = excess.std(ddof=1) * np.sqrt(design_effect(excess, groups) / len(excess))
    return default if excess.mean() <= NOISE * error else best
