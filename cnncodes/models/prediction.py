"""The answer of a model for one image."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Prediction"]


@dataclass(frozen=True)
class Prediction:
    """The answer of a model for one image.

    Attributes
    ----------
    path : str
        Id of the image: its path relative to the folder or the manifest that was given.
    label : str or None
        The most probable class. ``None`` if its probability is below the `min_confidence` of the call, or if the image
        cannot be read.
    probability : float or None
        Probability of `guess`, from 0 to 1; ``None`` if the image cannot be read.
    reason : str, default=""
        Why the image cannot be read.
    novelty : float or None, default=None
        How unlike all classes the image looks, from 0 (familiar) to nearly 1; see `ProbeModel.novelty`.
    guess : str or None, default=None
        The most probable class, however unsure; ``None`` if the image cannot be read.

    Examples
    --------
    >>> Prediction("new/1.png", label=None, probability=0.4, guess="rose").status
    'unsure'
    """

    path: str
    label: str | None
    probability: float | None
    reason: str = ""
    novelty: float | None = None
    guess: str | None = None

    @property
    def status(self) -> str:
        """``"labelled"``, ``"unsure"`` (there is a guess, but no label) or ``"failed"`` (it cannot be read)."""
        if self.guess is None:
            return "failed"
        return "unsure" if self.label is None else "labelled"
