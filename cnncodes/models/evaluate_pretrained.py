"""Scores a pretrained network with its own head on images whose labels are among its classes."""

from __future__ import annotations

import time

import numpy as np

from cnncodes.display import percent
from cnncodes.errors import ProbeError, nearest
from cnncodes.images.loading import ImageSet
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.models.pretrained import PretrainedNetwork
from cnncodes.networks.class_names import ClassNames
from cnncodes.probes.scores import majority_accuracy
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import IMAGENET

__all__ = ["evaluate_pretrained"]

OTHER = "(another class)"  # stands for answers that are no label of the images
MAX_NAMED = 5  # labels that a message names


def evaluate_pretrained(
    images: ImageSet,
    network: PretrainedNetwork,
    *,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Score a network on the images whose labels are among its classes; the others are left out.

    Parameters
    ----------
    images : ImageSet
        With labels.
    network : PretrainedNetwork
    device, workers, progress
        As for `cnncodes.models.predict.predict`.

    Raises
    ------
    ProbeError
        No label is among the classes.
    """
    started = time.perf_counter()
    labels = images.labels or []
    places, notes = _places_of(sorted({label for label in labels if label}), network.names)
    images = images.take([row for row, label in enumerate(labels) if label in places])
    if left_out := len(labels) - len(images):
        notes.append(f"{left_out} of {len(labels)} images are left out, which have no such label")
    computed, scores = network.answer(images, device=device, workers=workers, progress=progress)
    notes += [f"left out: {images.ids[row]}: {why}" for row, why in computed.failures.items()]
    if not len(computed.rows):
        raise ProbeError(f"none of these {len(images)} images can be read: {next(iter(computed.failures.values()))}")
    kept = np.array(images.labels)[computed.rows].tolist()
    truth = np.array([places[label] for label in kept])
    wanted = np.unique(truth)
    answers, among_labels = scores.argmax(axis=1), wanted[scores[:, wanted].argmax(axis=1)]
    if len(wanted) > 1:
        right = percent(float(np.mean(among_labels == truth)))
        notes.append(
            f"each answer is one of all {len(network.names.names):,} classes of the network; "
            f"among the {len(wanted)} of these images alone, {right} would be right"
        )
    notes.append("the network may have been trained on these very images, if they are of ImageNet")
    names = np.array(network.names.names)
    y = names[truth]
    predicted = np.where(np.isin(answers, wanted), names[answers], OTHER)
    groups = np.array(images.groups or [""] * len(images))[computed.rows]
    return EvaluationResult(
        y=y,
        predicted=predicted,
        classes=[*sorted(names[wanted].tolist()), OTHER],
        baseline_accuracy=majority_accuracy(y),
        about={"clf": IMAGENET, "layers": [network.layer], "C": None, "backbone": network.backbone.name},
        seconds=time.perf_counter() - started,
        notes=[*images.notes, *network.notes, *notes],
        groups=groups,
    )


def _places_of(labels: list[str], names: ClassNames) -> tuple[dict[str, int], list[str]]:
    """Return the class that each label means, and notes on labels that mean none, or that are ambiguous."""
    places, unknown, notes = {}, [], []
    for label in labels:
        classes = names.of_label(label)
        if len(classes) == 1:
            places[label] = classes[0]
        elif classes:
            meanings = " or ".join(repr(names.names[i]) for i in classes)
            notes.append(f"the label {label!r} is ambiguous: rename the folder to {meanings}")
        else:
            unknown.append(label)
    if unknown:
        more = f" and {len(unknown) - MAX_NAMED} more" * (len(unknown) > MAX_NAMED)
        some = ", ".join(map(repr, unknown[:MAX_NAMED])) + more
        notes.insert(0, f"labels that are not among the {len(names.names):,} classes of the network: {some}")
    if not places:
        close = nearest(unknown[0], names.names) if unknown else ""
        raise ProbeError(
            f"{'; '.join(notes) or 'the images have no labels'}; nothing is left to evaluate.{close} "
            "`cnncodes fit` learns classes of your own"
        )
    return places, notes
