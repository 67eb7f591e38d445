"""Finds images that are far from all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnncodes.codes.views import averaged
from cnncodes.insight.finding import Examined, Finding
from cnncodes.neighbours.duplicates import MOST, NEIGHBOURS
from cnncodes.neighbours.nearest import nearest_rows, standardised

__all__ = ["Outlier"]

FENCE = 1.5  # spreads between the quartiles beyond the upper one (Tukey 1977)


@dataclass(frozen=True)
class Outlier(Finding):
    """An image far from all others.

    Attributes
    ----------
    id, label, split : str
    score : float
        Distance to the tenth nearest image, over the median of this distance for all images; over the mean if the
        median is 0, because most codes are equal.
    """

    key, title, columns = "outliers", "outliers", ("id", "label", "score")

    split: str
    score: float

    @property
    def name(self) -> str:
        return "outlier"

    @property
    def badness(self) -> float:
        return self.score

    @classmethod
    def look(cls, examined: Examined) -> list[Outlier]:
        """Return images whose tenth nearest is far away: copies of an outlier don't make it less of one."""
        if not NEIGHBOURS < len(examined.rows) <= MOST:
            examined.notes.append(f"outliers are looked for among {NEIGHBOURS + 1} to {MOST:,} images only")
            return []
        distance = nearest_rows(standardised(averaged(examined.codes)), NEIGHBOURS)[1][:, -1]
        low, middle, high = np.quantile(distance, [0.25, 0.5, 0.75])
        far = np.flatnonzero(distance > high + FENCE * (high - low))
        usual = middle or distance.mean()
        return [cls(**examined.of(i), score=float(distance[i] / usual)) for i in far[np.argsort(-distance[far])]]
