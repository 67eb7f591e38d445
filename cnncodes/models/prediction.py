"""The answers of a model for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnncodes.probes.calibration import softmax
from cnncodes.probes.probe import winner

if TYPE_CHECKING:
    from cnncodes.extraction.in_memory import Computed
    from cnncodes.images.image_set import ImageSet
    from cnncodes.models.model import ProbeModel

__all__ = ["Prediction", "make_predictions"]


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
    model: ProbeModel, images: ImageSet, computed: Computed, min_confidence: float
) -> list[Prediction]:
    """Return a prediction for each image, in their order, by the codes that were computed of them.

    Parameters
    ----------
    model : ProbeModel
    images : ImageSet
    computed : Computed
        Codes of the images that could be read, and for the others the reason why not.
    min_confidence : float
        Least probability that gives a label.
    """
    X = model.concatenated(computed.codes)
    decision, novelties = model.decision_function(X), model.novelty(X)
    probabilities = softmax(decision, model.temperature)
    predictions = {row: Prediction(images.ids[row], None, None, reason) for row, reason in computed.failures.items()}
    for i, (row, best) in enumerate(zip(computed.rows.tolist(), winner(decision), strict=True)):
        guess, probability = model.classes[best], float(probabilities[i, best])
        predictions[row] = Prediction(
            path=images.ids[row],
            label=guess if probability >= min_confidence else None,
            probability=probability,
            novelty=None if novelties is None else float(novelties[i]),
            guess=guess,
        )
    return [predictions[row] for row in range(len(images))]
