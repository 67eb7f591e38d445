"""Tells which near-duplicates are of two classes, or on both sides of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cnncodes.insight.finding import Examined, Finding

__all__ = ["DuplicatePair"]


@dataclass(frozen=True)
class DuplicatePair(Finding):
    """Two images that are the same, or nearly.

    Attributes
    ----------
    id, label, split : str
    other, other_label, other_split : str
        The second image.
    similarity : float
    kind : {"exact", "near"}
        ``"exact"``: the same bytes.
    across_classes, across_splits : bool
        Whether the two have different labels, or are of different splits.
    """

    key, title = "duplicates", "near-duplicates"
    columns = ("id", "other", "label", "other_label", "kind", "similarity")

    split: str
    other: str
    other_label: str
    other_split: str
    similarity: float
    kind: Literal["exact", "near"]
    across_classes: bool
    across_splits: bool

    @property
    def name(self) -> str:
        return f"{self.kind} duplicate"

    @property
    def badness(self) -> float:
        return self.similarity

    @classmethod
    def look(cls, examined: Examined) -> list[DuplicatePair]:
        """Return the pairs: those across classes first, then those across splits, then the most similar."""
        duplicates = examined.duplicates
        pairs = []
        for (i, j), similarity, exact in zip(duplicates.pairs, duplicates.similarity, duplicates.exact, strict=True):
            one, other = examined.of(i), examined.of(j)
            pairs.append(
                cls(
                    **one,
                    other=other["id"],
                    other_label=other["label"],
                    other_split=other["split"],
                    similarity=float(similarity),
                    kind="exact" if exact else "near",
                    across_classes=one["label"] != other["label"],
                    across_splits=one["split"] != other["split"],
                )
            )
        return sorted(pairs, key=lambda pair: (not pair.across_classes, not pair.across_splits, -pair.similarity))
