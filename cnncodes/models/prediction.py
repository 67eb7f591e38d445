"""The answers of a model for images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.errors import SettingError

if TYPE_CHECKING:
    from cnncodes.extraction.in_memory import Computed

__all__ = ["Prediction", "make_predictions", "require_probability"]


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


def make_predictions(
    ids: Sequence[str],
    computed: Computed,
    guesses: Sequence[str],
    probabilities: np.ndarray,
    novelties: np.ndarray | None,
    min_confidence: float,
) -> list[Prediction]:
    """Return a prediction for each image, in their order.

    Parameters
    ----------
    ids : sequence of str
        Ids of all images.
    computed : Computed
        Codes of the images that could be read, n_ok of them, and for the others the reason why not.
    guesses : sequence of str, length n_ok
        Most probable class of each image that could be read.
    probabilities : ndarray, shape (n_ok,)
        Probability of that class.
    novelties : ndarray, shape (n_ok,), or None
    min_confidence : float
        Least probability that gives a label.
    """
    predictions = {row: Prediction(ids[row], None, None, reason) for row, reason in computed.failures.items()}
    for i, row in enumerate(computed.rows.tolist()):
        probability = float(probabilities[i])
        predictions[row] = Prediction(
            path=ids[row],
            label=guesses[i] if probability >= min_confidence else None,
            probability=probability,
            novelty=None if novelties is None else float(novelties[i]),
            guess=guesses[i],
        )
    return [predictions[row] for row in range(len(ids))]


def require_probability(min_confidence: float) -> None:
    """Raise `SettingError` unless the least probability of a label is from 0 to 1."""
    if not 0 <= min_confidence <= 1:
        raise SettingError(f"min_confidence is {min_confidence}; it must be a probability, from 0 to 1")
