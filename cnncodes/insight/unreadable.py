"""Finds images of a codes file that could not be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnncodes.insight.finding import Examined, Finding

__all__ = ["Unreadable"]


@dataclass(frozen=True)
class Unreadable(Finding):
    """An image that could not be read.

    Attributes
    ----------
    id, label : str
    reason : str
    """

    key, title, columns = "unreadable", "unreadable images", ("id", "reason")

    reason: str

    @property
    def name(self) -> str:
        return "unreadable"

    @classmethod
    def look(cls, examined: Examined) -> list[Unreadable]:
        """Return the failures that the codes file records."""
        file = examined.data.file
        return [cls(str(file.ids[i]), str(file.labels[i]), str(file.errors[i])) for i in np.flatnonzero(file.failed)]
