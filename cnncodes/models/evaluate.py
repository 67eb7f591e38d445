"""Scores fitted probes on labelled images: what `cnncodes evaluate` does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import is_hdf5
from cnncodes.codes.views import averaged
from cnncodes.errors import ProbeError, parameter
from cnncodes.images.image_set import Images, name_of
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.images.urls import without_secrets
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.models.model import ProbeModel
from cnncodes.models.predict import require_no_backbone
from cnncodes.models.stored_codes import StoredCodes
from cnncodes.names import composed, composed_names
from cnncodes.probes.out_of_core import pieces
from cnncodes.probes.protocol import TrainingData
from cnncodes.probes.scores import spread
from cnncodes.probes.split import leave_out_seen
from cnncodes.system.imports import import_torch
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import IMAGENET

__all__ = ["evaluate", "nearest_training_accuracy", "predict_rows"]


def evaluate(
    data: Images | CodesFile = "codes.h5",
    model: str | os.PathLike[str] | ProbeModel = "model.safetensors",
    *,
    guard: bool = True,
    allow_outside: bool = False,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Score a fitted model on labelled images.

    Parameters
    ----------
    data : path, CodesFile, TrainingData, or what `load_images` takes, default="codes.h5"
        A codes file with a split gives its held-out images, anything else all labelled images. For a fine-tuned model
        it must keep the maps of the layer below what was trained.
    model : path or ProbeModel, default="model.safetensors"
        A model file, or a model that is loaded already. ``"imagenet"`` is a pretrained network with its own head: it is
        scored on the images whose labels are among the classes that it was trained on, however their words are
        separated and capitalised, or given as WordNet ids (``n01440764``, if timm is installed).
    guard : bool, default=True
        Leave out held-out images of a codes file that have a near-duplicate among its training images. Those whose
        group has training images are left out in any case.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    backbone, weights : optional
        As for `predict`.
    device : str, optional
        ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; by default the device of the training codes.
    workers : int, optional
        Threads that decode images; by default one a core.
    progress : callable, optional
        Called with (done, total, failed), the numbers of images. A codes file has its codes, and never calls it.

    Returns
    -------
    EvaluationResult

    Raises
    ------
    MismatchError
        The codes are of another backbone, other weights or other preprocessing than the model's.
    ProbeError
        There are no labelled images, or none is left that the model has not seen, or whose label is a class of the
        network.
    SettingError
        A backbone is given for a model that was fitted.

    Examples
    --------
    >>> result = evaluate("codes.h5", "model.safetensors")  # doctest: +SKIP
    >>> print(result.accuracies.accuracy)  # doctest: +SKIP
    92.0 % (84.1 to 96.2 %)
    """
    running: dict[str, Any] = {"device": device, "workers": workers, "progress": progress}
    if model == IMAGENET:
        return _by_own_head(data, allow_outside, backbone, weights, running)
    require_no_backbone(backbone)
    started = time.perf_counter()
    fitted = model if isinstance(model, ProbeModel) else ProbeModel.load(model)
    if isinstance(data, (CodesFile, TrainingData)) or _is_codes_file(data):
        answers = _from_codes(data, fitted, guard, {"weights": weights, "device": device, "workers": workers})
    else:
        answers = _from_images(
            load_images(data, allow_outside=allow_outside),
            without_secrets(str(data)),
            fitted,
            {"weights": weights, **running},
        )
    predicted, y, notes, neighbour = composed_names(answers.predicted), answers.y, answers.notes, answers.neighbour
    groups, classes = answers.groups, set(map(composed, fitted.classes))  # an older model may have another form
    if not len(y):
        raise ProbeError(
            f"{name_of(data)}: there are no labelled images to evaluate on; put them into one folder a class"
        )
    seen = fitted.was_trained_on(answers.digests)
    unseen, kin, left_out = leave_out_seen(seen, answers.groups)
    if seen.all():
        notes.append("these are images that the model was fitted on: the accuracy is far too good; see cv_accuracy")
    elif seen.any():
        notes.append(f"{seen.sum()} images are left out: the model was fitted on them")
        notes += left_out
        predicted, y, groups = predicted[unseen], y[unseen], groups[unseen]
        if not len(y):
            raise ProbeError(
                f"{name_of(data)}: the model was fitted on {seen.sum()} of these images, and the other "
                f"{kin.sum()} are of their groups, so that nothing is left to evaluate on; take images of other groups"
            )
    if unknown := sorted(set(y) - classes):
        notes.append(f"classes that the model does not know, and so always misses: {', '.join(unknown)}")
    if neighbour is None:
        notes.append("there is no nearest-neighbour baseline: it needs a codes file with training and held-out images")
    labels, counts = np.unique(y, return_counts=True)
    return EvaluationResult(
        y=y,
        predicted=predicted,
        classes=sorted({*classes, *labels.tolist()}),
        baseline_accuracy=float(counts.max() / len(y)),
        about=fitted.about,
        seconds=time.perf_counter() - started,
        notes=notes,
        neighbour_accuracy=neighbour,
        n_seen=int(seen.sum()),
        n_grouped=answers.n_grouped + int(kin.sum()),
        groups=groups,
    )


class _Answers(NamedTuple):
    """The answers of a model to labelled images, and what is known about these, an entry each."""

    predicted: np.ndarray
    y: np.ndarray
    digests: np.ndarray
    groups: np.ndarray
    notes: list[str]
    neighbour: float | None = None  # accuracy of the nearest training image
    n_grouped: int = 0  # images that are not here, because their group has training images


def _by_own_head(
    data: Any, allow_outside: bool, backbone: str | None, weights: Any, running: dict[str, Any]
) -> EvaluationResult:
    if isinstance(data, (CodesFile, TrainingData)) or _is_codes_file(data):
        raise ProbeError(f"{IMAGENET} is scored on images, not on codes; name their folder or table")
    images = load_images(data, allow_outside=allow_outside)
    import_torch()
    from cnncodes.models.evaluate_pretrained import evaluate_pretrained
    from cnncodes.models.pretrained import PretrainedNetwork

    return evaluate_pretrained(images, PretrainedNetwork(backbone, weights), **running)


def _is_codes_file(data: Any) -> bool:
    if not isinstance(data, (str, os.PathLike)):
        return False
    return is_hdf5(data) if Path(data).is_file() else Path(data).suffix.lower() in (".h5", ".hdf5")


def _from_codes(data: Any, model: ProbeModel, guard: bool, running: dict[str, Any]) -> _Answers:
    with TrainingData.open(data) as training:
        file, grouped = training.file, training.split.grouped
        codes = StoredCodes(file, model, **running)
        notes, neighbour = [*training.split.notes, *codes.notes], None
        if training.has_held_out and not len(training.held_out):
            raise ProbeError(
                f"{file.path}: all {len(grouped)} held-out images are of groups that have training images, so that "
                "nothing is left to evaluate on; split by group"
            )
        rows = training.scored_rows(guard=guard)
        if training.has_held_out:
            notes += training.guard().notes if guard else []
            if not len(rows):
                others = f", and the {len(grouped)} others are of groups that have training images" * bool(len(grouped))
                raise ProbeError(
                    f"{file.path}: all {len(training.held_out)} held-out images are near-duplicates of training "
                    f"images{others}, so that nothing is left to evaluate on; "
                    f"{parameter('guard', False)} scores near-duplicates nevertheless"
                )
            neighbour = nearest_training_accuracy(file, model, training.train, rows)
        y, digests, groups = file.labels[rows], file.sha256[rows], file.groups[rows]
        return _Answers(predict_rows(file, model, rows, codes), y, digests, groups, notes, neighbour, len(grouped))


def predict_rows(
    file: CodesFile, model: ProbeModel, rows: np.ndarray, codes: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Return the answers to images of a codes file, reading a bounded piece of it at a time.

    Parameters
    ----------
    file : CodesFile
    model : ProbeModel
    rows : ndarray of int, shape (n,)
    codes : callable, optional
        Gives the codes of rows; by default those that the file keeps.
    """
    codes = codes or partial(file.codes, model.layers)
    answers = [model.predict(codes(rows[piece])) for piece in pieces(file, model.layers, len(rows))]
    return np.concatenate(answers) if answers else np.empty(0, str)


def nearest_training_accuracy(file: CodesFile, model: ProbeModel, train: np.ndarray, test: np.ndarray) -> float:
    """Return the accuracy of answering with the class of the nearest training image, by codes scaled for the model.

    The codes are those of the file: of the network as its weights are, even if the model has fine-tuned it.
    """
    sample = spread(test)
    queries = model.scaled(averaged(file.codes(model.layers, sample)))
    least, nearest = np.full(len(sample), np.inf), np.zeros(len(sample), np.intp)
    for piece in pieces(file, model.layers, len(train)):
        codes = model.scaled(averaged(file.codes(model.layers, train[piece])))
        distances = (codes**2).sum(axis=1) - 2 * queries @ codes.T  # squared, less the norm of the query
        best = distances.argmin(axis=1)
        nearer = distances[np.arange(len(sample)), best] < least
        least[nearer] = distances[np.arange(len(sample)), best][nearer]
        nearest[nearer] = train[piece][best[nearer]]
    return float(np.mean(file.labels[nearest] == file.labels[sample]))


def _from_images(images: ImageSet, name: str, model: ProbeModel, options: dict[str, Any]) -> _Answers:
    if images.labels is None:
        raise ProbeError(f"{name}: the images have no labels; put them into one folder a class")
    labelled = [row for row, label in enumerate(images.labels) if label]
    if unlabelled := len(images) - len(labelled):
        images = images.take(labelled)
        images.notes.append(f"{unlabelled} images without a label are left out")
    computed = model.compute_codes(images, **options)
    notes = [*images.notes, *(f"left out: {images.ids[row]}: {why}" for row, why in computed.failures.items())]
    predicted = model.predict(model.concatenated(computed.codes))
    groups = np.array(images.groups or [""] * len(images))
    return _Answers(predicted, np.array(images.labels)[computed.rows], computed.sha256, groups[computed.rows], notes)
