"""The answers of a model to images that it has not seen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnncodes.models.evaluate import nearest_training_accuracy
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.models.model import ProbeModel
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
        cross-validation, in which each image is left out of the fit that answers for it.
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


def ask(codes: Codes, model: ProbeModel, *, seed: int = 0) -> Answers:
    """Ask a model about images that it has not seen.

    The images are the held-out ones, or all labelled ones if there is no split. Those that the model was fitted on,
    others of the same groups, and near-duplicates of training images are left out. If none remains, the training images
    are cross-validated with the C of the model.

    Parameters
    ----------
    codes : path, CodesFile or TrainingData
    model : ProbeModel
    seed : int, default=0
        Seed of the shuffle into folds, if there are any.

    Raises
    ------
    MismatchError
        The codes were not made in the same way as those that the model was fitted to.
    ProbeError
        There are no labelled images.
    """
    with TrainingData.open(codes) as data:
        return _ask(data, model, seed)


def _ask(data: TrainingData, model: ProbeModel, seed: int) -> Answers:
    started = time.perf_counter()
    file = data.file
    model.check_codes(file.provenance, str(file.path))
    notes = data.split.notes + data.guard().notes
    rows = data.scored_rows()
    seen = model.was_trained_on(file.sha256[rows])
    unseen, grouped, left_out = leave_out_seen(seen, file.groups[rows])
    if not (seen | grouped).all():
        notes += left_out
    held_out = bool(unseen.any())
    if held_out:
        rows, folds, classes = rows[unseen], None, composed_names(np.array(model.classes))
        groups = file.groups[rows]
        decision, temperature = model.decision_function(data.codes(model.layers, rows)), model.temperature
        neighbour_accuracy = nearest_training_accuracy(file, model, data.train, rows) if len(data.held_out) else None
    else:
        groups = data.groups()
        scored, unscorable = data.scorable(groups)
        rows, groups, notes = data.train[scored], groups[scored], notes + unscorable
        cross_validation: dict[str, Any] = {
            "groups": groups,
            "rows": rows,
            "scale": model.scale,
            "cv": model.scores.cv,
            "seed": seed,
        }
        probe: dict[str, Any] = {"clf": model.clf, "class_weight": model.scores.class_weight}
        search = data.search(model.layers, Cs=[model.C], any_grid=True, **probe, **cross_validation)
        decision, temperature, folds, classes = search.decision, search.temperature, search.folds, search.classes
        neighbour_accuracy = data.neighbour_accuracy(model.layers, **cross_validation)
    y = file.labels[rows]
    best = winner(decision)
    result = EvaluationResult(
        y=y,
        predicted=classes[best],
        classes=sorted({*classes.tolist(), *y.tolist()}),
        baseline_accuracy=majority_accuracy(y),
        about={name: getattr(model, name) for name in ("clf", "layers", "C")},
        seconds=time.perf_counter() - started,
        neighbour_accuracy=neighbour_accuracy,
        n_seen=0 if held_out else len(y),
        groups=groups,
    )
    confidence = softmax(decision, temperature)[np.arange(len(y)), best]
    return Answers(rows, result, confidence, held_out, notes, folds)
