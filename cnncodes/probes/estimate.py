"""An accuracy with the interval that says how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnncodes.display import interval, percent

__all__ = ["Accuracies", "Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A share, with its 95 % interval.

    Attributes
    ----------
    value : float
        From 0 to 1.
    low, high : float
        Ends of the interval, from 0 to 1.

    Examples
    --------
    >>> accuracy = Estimate(0.9, low=0.8256, high=0.9448)
    >>> print(accuracy)
    90.0 % (82.6 to 94.5 %)
    """

    value: float
    low: float
    high: float

    @property
    def interval(self) -> list[float]:
        """The two ends, ready for JSON."""
        return [self.low, self.high]

    def __str__(self) -> str:
        return f"{percent(self.value)} ({interval(self.low, self.high)})"


@dataclass(frozen=True)
class Accuracies:
    """Accuracy and balanced accuracy of the same predictions.

    Attributes
    ----------
    accuracy : Estimate
        Share of the images that are labelled right.
    balanced : Estimate
        Mean over the classes of the share that is labelled right: rare classes count as much as frequent ones.

    Examples
    --------
    >>> accuracies = Accuracies(Estimate(0.9, low=0.8, high=0.95), Estimate(0.7, low=0.6, high=0.8))
    >>> accuracies.to_dict("cv_")["cv_balanced_interval"]
    [0.6, 0.8]
    """

    accuracy: Estimate
    balanced: Estimate

    def to_dict(self, prefix: str = "") -> dict[str, Any]:
        """Return both values and both intervals, ready for JSON.

        Parameters
        ----------
        prefix : str, default=""
            What each key begins with.
        """
        return {
            f"{prefix}accuracy": self.accuracy.value,
            f"{prefix}interval": self.accuracy.interval,
            f"{prefix}balanced_accuracy": self.balanced.value,
            f"{prefix}balanced_interval": self.balanced.interval,
        }
