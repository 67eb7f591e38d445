"""The answers of a model to images that it has not seen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cnncodes.errors import ProbeError
from cnncodes.images.loading import ImageSet
from cnncodes.models.evaluate import nearest_training_accuracy
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.models.model import ProbeModel
from cnncodes.models.stored_codes import StoredCodes, require_same_network
from cnncodes.names import composed_names
from cnncodes.probes.decision_values import softmax, winner
from cnncodes.probes.estimate import Accuracies
from cnncodes.probes.folds import Folds
from cnncodes.probes.protocol import Codes, TrainingData
from cnncodes.probes.scores import majority_accuracy, score
from cnncodes.probes.split import leave_out_seen

__all__ = ["Answers", "ask"]


@dataclass
class Answers:
    """The answers of a model to images that it was not fitted on.

    Attributes
    ----------
    rows : ndarray of int, shape (n,)
        Rows of the codes file.
    result : EvaluationResult
        Labels and predictions, in the order of the rows.
    confidence : ndarray, shape (n,)
        Probability of each prediction.
    held_out : bool
        Whether the model itself answered, about images that it has never seen. Otherwise the answers are those of a
        cross-validation, in which each image is left out of the fit that answers for it; those of a fine-tuned model
        are kept with it.
    notes : list of str
    folds : list of (train, test) index arrays, optional
        The folds of the cross-validation.
    """

    rows: np.ndarray
    result: EvaluationResult
    confidence: np.ndarray
    held_out: bool
    notes: list[str]
    folds: Folds | None = None

    @cached_property
    def accuracies(self) -> Accuracies:
        """Accuracy and balanced accuracy, with 95 % intervals."""
        return score(self.result.y, self.result.predicted, folds=self.folds, groups=self.result.groups)

    @property
    def mistakes(self) -> np.ndarray:
        """Positions of the wrong answers, the most confident first."""
        wrong = np.flatnonzero(self.result.y != self.result.predicted)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]


def ask(codes: Codes, model: ProbeModel, *, seed: int = 0, images: ImageSet | None = None) -> Answers:
    """Ask a model about images that it has not seen.

    The images are the held-out ones, or all labelled ones if there is no split. Those that the model was fitted on,
    others of the same groups, and near-duplicates of training images are left out. If none remains, the training images
    are cross-validated with the C of the model, unless it is fine-tuned: its file has the answers of its own
    cross-validation.

    Parameters
    ----------
    codes : path, CodesFile or TrainingData
    model : ProbeModel
    seed : int, default=0
        Seed of the shuffle into folds, if there are any.
    images : ImageSet, optional
        The images that the codes file was made from; a fine-tuned model needs them where the file keeps no maps.

    Raises
    ------
    MismatchError
        The codes were not made in the same way as those that the model was fitted to.
    ProbeError
        There are no labelled images, or the file does not give the codes that a fine-tuned model takes.
    """
    with TrainingData.open(codes) as data:
        return _ask(data, model, seed, images)


class _Given(NamedTuple):
    """Answers, and which images they are to."""

    rows: np.ndarray
    groups: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    neighbour_accuracy: float | None
    notes: list[str]
    folds: Folds | None = None


def _ask(data: TrainingData, model: ProbeModel, seed: int, images: ImageSet | None) -> Answers:
    started = time.perf_counter()
    file = data.file
    require_same_network(file, model)
    notes = data.split.notes + data.guard().notes
    rows = data.scored_rows()
    seen = model.was_trained_on(file.sha256[rows])
    unseen, grouped, left_out = leave_out_seen(seen, file.groups[rows])
    if not (seen | grouped).all():
        notes += left_out
    held_out = bool(unseen.any())
    if held_out:
        given = _asked(data, model, rows[unseen], images)
    elif model.tuned is not None:
        given = _kept(data, model)
    else:
        given = _cross_validated(data, model, seed)
    y = file.labels[given.rows]
    classes = composed_names(np.array(model.classes)) if held_out else given.predicted
    result = EvaluationResult(
        y=y,
        predicted=given.predicted,
        classes=sorted({*classes.tolist(), *y.tolist()}),
        baseline_accuracy=majority_accuracy(y),
        about=model.about,
        seconds=time.perf_counter() - started,
        neighbour_accuracy=given.neighbour_accuracy,
        n_seen=0 if held_out else len(y),
        groups=given.groups,
    )
    return Answers(given.rows, result, given.confidence, held_out, notes + given.notes, given.folds)


def _asked(data: TrainingData, model: ProbeModel, rows: np.ndarray, images: ImageSet | None) -> _Given:
    """Return what the model says to images that it has not seen."""
    codes = StoredCodes(data.file, model, images)
    best, confidence = _surest(model.decision_function(codes(rows)), model.temperature)
    neighbour = nearest_training_accuracy(data.file, model, data.train, rows) if len(data.held_out) else None
    predicted = composed_names(np.array(model.classes))[best]
    return _Given(rows, data.file.groups[rows], predicted, confidence, neighbour, codes.notes)


def _cross_validated(data: TrainingData, model: ProbeModel, seed: int) -> _Given:
    """Return what probes like that of the model say to the training images of the file, out of fold."""
    groups = data.groups()
    scored, notes = data.scorable(groups)
    rows, groups = data.train[scored], groups[scored]
    folding: dict[str, Any] = {"groups": groups, "rows": rows, "scale": model.scale, "cv": model.scores.cv}
    folding |= {"seed": seed}
    probe: dict[str, Any] = {"clf": model.clf, "class_weight": model.scores.class_weight}
    search = data.search(model.layers, Cs=[model.C], any_grid=True, **probe, **folding)
    best, confidence = _surest(search.decision, search.temperature)
    neighbour = data.neighbour_accuracy(model.layers, **folding)
    return _Given(rows, groups, search.classes[best], confidence, neighbour, notes, search.folds)


def _kept(data: TrainingData, model: ProbeModel) -> _Given:
    """Return the answers to the training images that a fine-tuned model keeps."""
    groups = data.groups()
    scored, notes = data.scorable(groups)
    rows, groups = data.train[scored], groups[scored]
    if model.answered is None or (places := model.answered.places(data.file.sha256[rows])).max() < 0:
        raise ProbeError(
            f"{data.file.path}: the model was fitted on these images, and keeps no answer of another network to them; "
            "take images that it has not seen, or a model of `cnncodes fit`"
        )
    folding: dict[str, Any] = {"cv": model.scores.cv, "seed": model.scores.seed}
    is_answered = places >= 0
    folds = data.folds(groups, rows, **folding)[0] if is_answered.all() else None
    rows, groups, places = rows[is_answered], groups[is_answered], places[is_answered]
    predicted = composed_names(np.array(model.classes))[model.answered.classes[places]]
    neighbour = data.neighbour_accuracy(model.layers, groups=groups, rows=rows, scale=model.scale, **folding)
    return _Given(rows, groups, predicted, model.answered.confidence[places], neighbour, notes, folds)


def _surest(decision: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the position of the best class of each image, and its probability."""
    best = winner(decision)
    return best, softmax(decision, temperature)[np.arange(len(best)), best]
