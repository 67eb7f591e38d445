"""The row of a fine-tuned model beside the probes of a comparison, from the answers that the model keeps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cnncodes.errors import MismatchError, SettingError
from cnncodes.insight.comparison import TUNED, Row
from cnncodes.models.answered import Answered
from cnncodes.models.model import ProbeModel
from cnncodes.models.stored_codes import require_same_network
from cnncodes.names import composed_names
from cnncodes.probes.intervals import paired_interval
from cnncodes.probes.protocol import TrainingData

__all__ = ["Model", "TunedAnswers", "load_models", "tuned_answers", "tuned_row"]

CHOICES = 5  # shares of the way from the probe among which fine-tuning takes the best; one is the probe itself


Model = str | os.PathLike[str] | ProbeModel


class TunedAnswers(NamedTuple):
    """A fine-tuned model, and which of the images of a comparison it answered right, out of fold."""

    model: ProbeModel
    name: str
    data: TrainingData
    answered: np.ndarray  # positions among the images of the comparison, ascending
    right: np.ndarray  # bool, for each of these


def load_models(models: Model | Sequence[Model]) -> list[tuple[ProbeModel, str]]:
    """Return one model or several, each with the name of its file."""
    several = [models] if isinstance(models, (str, os.PathLike, ProbeModel)) else models
    return [
        (model, "the model") if isinstance(model, ProbeModel) else (ProbeModel.load(model), os.fspath(model))
        for model in several
    ]


def tuned_answers(every: Sequence[TrainingData], scored: np.ndarray, model: ProbeModel, name: str) -> TunedAnswers:
    """Return the answers of a fine-tuned model to images that are compared.

    Parameters
    ----------
    every : sequence of TrainingData
        The model belongs to the first codes file that has its network.
    scored : ndarray of int
        Positions of the images that are compared, among the training images.
    model : ProbeModel
    name : str
        Name of its file, for errors.

    Raises
    ------
    SettingError
        The model is not fine-tuned, or keeps no answers.
    MismatchError
        It is of another network, or was fitted on other images or classes.
    """
    if model.tuned is None:
        layers = " + ".join(model.layers)
        raise SettingError(f"{name} is not fine-tuned: the comparison has its probe already, {model.clf} on {layers}")
    data = _with_network(every, model)
    _require_same_images(data, model, name)
    rows = data.train[scored]
    places = _answers_of(model, name).places(data.file.sha256[rows])
    answered = np.flatnonzero(places >= 0)
    if not len(answered):
        raise MismatchError(f"{name}: none of the images that are compared was answered when it was fine-tuned")
    predicted = composed_names(np.array(model.classes))[_answers_of(model, name).classes[places[answered]]]
    return TunedAnswers(model, name, data, answered, predicted == data.file.labels[rows[answered]])


def _with_network(every: Sequence[TrainingData], model: ProbeModel) -> TrainingData:
    refusals: list[MismatchError] = []
    for data in every:
        try:
            require_same_network(data.file, model)
            return data
        except MismatchError as error:
            refusals.append(error)
    raise refusals[0]


def _require_same_images(data: TrainingData, model: ProbeModel, name: str) -> None:
    digests = data.file.sha256[data.train]
    foreign = int((~model.was_trained_on(digests)).sum())
    if foreign or len(digests) != model.scores.n:
        raise MismatchError(
            f"{name} was fitted on other images than the training images of {data.file.path}: on {model.scores.n}, "
            f"here are {len(digests)}, {foreign} of which it has not seen; fine-tune on this file"
        )
    if set(composed_names(np.array(model.classes))) != set(data.labels):
        raise MismatchError(f"{name} knows other classes than {data.file.path} has; fine-tune on this file")


def _answers_of(model: ProbeModel, name: str) -> Answered:
    if model.answered is None:
        raise SettingError(f"{name} keeps no out-of-fold answers, by which it could be compared; fine-tune again")
    return model.answered


def tuned_row(
    answers: TunedAnswers, like: Row, best: np.ndarray, n_probes: int, groups: np.ndarray, cv: int
) -> tuple[Row, str]:
    """Return the row of a fine-tuned model, and a note on how its figures were found.

    Parameters
    ----------
    answers : TunedAnswers
    like : Row
        A probe on the same images.
    best : ndarray, shape (n,)
        How often each image was labelled right by the best probe.
    n_probes : int
        Among how many it was the best.
    groups : ndarray of str, shape (n,)
    cv : int
        Folds of the probes.

    Returns
    -------
    row : Row
        Its difference, and the interval of that, are to the best probe on the images that were answered.
    note : str
    """
    model, at = answers.model, answers.answered
    assert model.tuned is not None
    right = answers.right.astype(float)
    # Each end allows for what the other side owes to having been the best of several
    low = -paired_interval(best[at], right, best_of=CHOICES, groups=groups[at])[1]
    high = paired_interval(right, best[at], best_of=n_probes, groups=groups[at])[1]
    file = answers.data.file
    row = replace(
        like,
        codes=str(file.path),
        backbone=file.provenance.backbone,
        pooling=file.provenance.pooling,
        layers=[],
        n=len(at),
        n_features=model.coef.shape[1],
        clf=TUNED,
        scale=model.scale,
        C=None,
        cross_validated=model.scores.cross_validated,
        log_loss=None,
        repeats=1,
        seconds=0.0,
        model=answers.name,
        tuned_from=model.tuned.first,
        difference=float(right.mean() - best[at].mean()),
        difference_interval=[low, high],
        recommended=False,
    )
    note = (
        f"{answers.name}: its figures are those of its fine-tuning: {len(at)} of {len(best)} images, each answered by "
        f"a network that was trained on the other of {model.scores.cv} folds"
    )
    if model.scores.cv < cv:
        note += f", and so on fewer images than the probes here, which have {cv}"
    return row, note
