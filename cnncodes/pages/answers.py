"""What a model says to images that it has not seen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.models.model import ProbeModel
from cnncodes.probes.calibration import softmax
from cnncodes.probes.guard import guard_splits
from cnncodes.probes.probe import winner
from cnncodes.probes.scores import majority_accuracy, neighbour_accuracy, score
from cnncodes.probes.search import search_C
from cnncodes.probes.split import groups_in_both, of_known_groups, split_rows

__all__ = ["Answers", "ask"]


@dataclass
class Answers:
    """The answers of a model to images that it was not fitted on.

    Attributes
    ----------
    rows : ndarray of int, shape (n,)
        Of the codes file.
    result : EvaluationResult
        Labels and predictions, in the order of the rows.
    confidence : ndarray, shape (n,)
        Probability of each prediction.
    held_out : bool
        The model has never seen these images; otherwise the answers are those of a cross-validation, in which it was
        fitted without them.
    notes : list of str
    """

    rows: np.ndarray
    result: EvaluationResult
    confidence: np.ndarray
    held_out: bool
    notes: list[str]

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Accuracy and balanced accuracy, with intervals."""
        return score(self.result.y, self.result.predicted, out_of_fold=not self.held_out)

    @property
    def mistakes(self) -> np.ndarray:
        """Positions of the wrong answers, the most confident first."""
        wrong = np.flatnonzero(self.result.y != self.result.predicted)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]


def ask(file: CodesFile, model: ProbeModel, *, seed: int = 0) -> Answers:
    """Ask a model about images that it has not seen.

    These are the held-out images, or all, less those that it was fitted on, those of the same groups, and
    near-duplicates of training images. Where none is left, the probe is fitted again without each fold of a
    cross-validation, with the C of the model.

    Parameters
    ----------
    file : CodesFile
    model : ProbeModel
    seed : int
        Of the folds.

    Raises
    ------
    MismatchError
        The codes were made otherwise than those that the model was fitted with.
    ProbeError
        There are no labelled images.
    """
    started = time.perf_counter()
    model.check_codes(file.provenance, str(file.path))
    train, test, grouped, notes = split_rows(file)
    guarded = guard_splits(file, train, test)
    notes += guarded.notes
    rows = test[~guarded.leaked] if len(test) + len(grouped) else train
    seen = model.was_trained_on(file.sha256[rows])
    known = file.groups[rows[seen]]
    kin = of_known_groups(file.groups[rows], known) & ~seen
    if kin.any() and not (seen | kin).all():
        notes.append(f"left out of the score: {groups_in_both(file.groups[rows[kin]], known)}")
    unseen = rows[~seen & ~kin]
    held_out = len(unseen) > 0
    if held_out:
        rows = unseen
        X, y = file.codes(model.layers, rows), file.labels[rows]
        decision, temperature = model.decision_function(X), model.temperature
        neighbour = _neighbour(file, model, train, rows) if len(test) else None
    else:
        rows, groups = train, guarded.groups
        X, y = file.codes(model.layers, rows), file.labels[rows]
        known = {"class_weight": model.scores.get("class_weight"), "cv": model.scores.get("cv", 5)}
        search = search_C(X, y, clf=model.clf, Cs=[model.C], scale=model.scale, groups=groups, seed=seed, **known)
        decision, temperature = search.decision, search.temperature
        neighbour = neighbour_accuracy(X, y, search.folds, scale=model.scale)
    best = winner(decision)
    result = EvaluationResult(
        y=y,
        predicted=np.array(model.classes)[best],
        classes=sorted({*model.classes, *y.tolist()}),
        baseline_accuracy=majority_accuracy(y),
        about={name: getattr(model, name) for name in ("clf", "layers", "C")},
        seconds=time.perf_counter() - started,
        neighbour_accuracy=neighbour,
        n_seen=0 if held_out else len(y),
    )
    return Answers(rows, result, softmax(decision, temperature)[np.arange(len(y)), best], held_out, notes)


def _neighbour(file: CodesFile, model: ProbeModel, train: np.ndarray, rows: np.ndarray) -> float:
    both = np.concatenate([train, rows])
    fold = (np.arange(len(train)), np.arange(len(train), len(both)))
    return neighbour_accuracy(file.codes(model.layers, both), file.labels[both], [fold], scale=model.scale)
