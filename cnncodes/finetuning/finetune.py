"""Trains the upper part of a network further, from a fitted probe on: what `cnncodes finetune` does."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.errors import SettingError, parameter
from cnncodes.extraction.in_memory import require_same_weights
from cnncodes.extraction.settings import load_named_backbone, settings_of
from cnncodes.finetuning.cached_maps import cached_maps
from cnncodes.finetuning.codes_with_maps import codes_with_maps
from cnncodes.finetuning.curve_points import measure_curves
from cnncodes.finetuning.head import moving_statistics
from cnncodes.finetuning.out_of_fold import OutOfFold, Task, Trained, answer_folds, folds_to_answer, train_on_all
from cnncodes.finetuning.result import Finetuning, HeldOut, StoppedError, make_result
from cnncodes.finetuning.schedule import Recipe
from cnncodes.finetuning.state import State
from cnncodes.finetuning.training import Epoch, Training
from cnncodes.images.image_set import Images
from cnncodes.models.fit import fit
from cnncodes.networks.cut import Cut, cut_before
from cnncodes.probes.protocol import Codes
from cnncodes.probes.search import grid_of
from cnncodes.runtime.devices import resolve_device
from cnncodes.system.interrupt import patience
from cnncodes.system.process import inference_settings
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO, DEFAULT_SCALING, PENULTIMATE, TRAIN_ALL, as_names

__all__ = ["Finetuning", "finetune"]

logger = logging.getLogger(__name__)

SAVING_SECONDS = 60.0  # until a step of the training on all images is over after Ctrl-C


def finetune(
    data: Images | Codes = "codes.h5",
    *,
    train_from: str = "layer4",
    freeze: str | Sequence[str] = (),
    unfreeze: str | Sequence[str] = (),
    batchnorm: bool = False,
    images: Images | None = None,
    epochs: int = 8,
    lr: float = 3e-4,
    batch_size: int = 32,
    clf: str = "svm",
    C: float | str = "auto",
    scale: str = DEFAULT_SCALING,
    cv: int = 3,
    seed: int = 0,
    guard: bool = True,
    always: bool = False,
    curves: bool = False,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    resize: str | None = None,
    views: str | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    workers: int | None = None,
    state: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[str, Epoch], None] | None = None,
    on_step: Callable[[str, Epoch], None] | None = None,
) -> Finetuning:
    """Train the upper part of a network further, from the fitted probe on, and say whether that beats the probe.

    The maps that enter the upper part are computed once; the lower part stays frozen. The first answers are those of
    the probe. Whether it pays is found on the folds of the probe, with groups and near-duplicates on one side.

    Parameters
    ----------
    data : path, CodesFile, TrainingData, or what `load_images` takes, default="codes.h5"
        A codes file with the layer `penultimate`; images are extracted first.
    train_from : str, default="layer4"
        The first part that is trained, with all above it: ``layer1`` … ``layer4``, ``head`` (the classifier alone),
        ``all``, or the path of a module.
    freeze : str or sequence of str, default=()
        Parts of that which stay as they are after all: stages, modules or parameters, by name or by shell pattern
        (``"features.1[67]"``, ``"*.bias"``).
    unfreeze : str or sequence of str, default=()
        Parts below that which are trained as well. What `freeze` names, too, stays as it is.
    batchnorm : bool, default=False
        Let batch normalisation that is trained normalise by the batch, and move its statistics. It needs large batches.
    images : path, sequence, ndarray or ImageSet, optional
        The images that a codes file was made from. They are needed only if it does not keep the maps of the layer
        below (``extract(…, maps="layer3")`` for ``train_from="layer4"``).
    epochs : int, default=8
        How often each image is seen.
    lr : float, default=3e-4
        Rate of AdamW at the head; below it is smaller, down to a tenth at the bottom of the network.
    batch_size : int, default=32
        Images of a step.
    clf : {"svm", "logreg"}, default="svm"
        Classifier of the probe.
    C : float or "auto", default="auto"
        Inverse strength of the penalty of the probe.
    scale : {"shrunk", "standard", "l2", "none"}, default="shrunk"
        Scaling of the codes.
    cv : int, default=3
        Folds. As many are trained as are needed for 2,000 answers.
    seed : int, default=0
        Seed of the folds and of the order of images.
    guard : bool, default=True
        Keep near-duplicates on the same side of each fold.
    always : bool, default=False
        Keep the fine-tuned network even where it does not beat the probe.
    curves : bool, default=False
        When the model is done, also train the whole network, from the probe on and from random weights, and score each
        after every epoch: the `curves` of the result. That takes the images, also where the codes file keeps maps. It
        is not continued after a kill, but begun anew.
    backbone, weights, image_size, resize, views : optional
        As for `extract`, where `data` are images; ``views="flip"`` trains on mirror images, too.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    device : str, optional
        ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; by default a GPU where there is one.
    workers : int, optional
        Threads that decode images; by default one a core.
    state : path, optional
        File from which a run that was killed goes on, with the same result. It is written as training goes on, and
        can be removed when the model is saved.
    progress : callable, optional
        Called with (done, total, failed): images while they are extracted, then steps of training.
    on_epoch : callable, optional
        Called with what is trained, and with each epoch that is complete; epoch 0 is the probe.
    on_step : callable, optional
        Called with what is trained, and with the loss of the epoch so far, before the first step and after each.

    Returns
    -------
    Finetuning
        Its `model` is what is worth keeping.

    Raises
    ------
    ProbeError
        The codes give no probe, or memory does not hold the maps.
    BackboneError
        The network has no such part.
    MismatchError
        The images are not those of the codes file.
    SettingError
        A setting has no such value.
    StoppedError
        Ctrl-C while the network was trained on all images: a KeyboardInterrupt whose `result` is what there is so far.

    Examples
    --------
    >>> result = finetune("photos/", train_from="layer4")  # doctest: +SKIP
    >>> print(result.answer)  # doctest: +SKIP
    fine-tuning from layer4 gains +2.9 points (+1.2 to +4.6)
    >>> result.model.save("model.safetensors")  # doctest: +SKIP
    """
    started = time.perf_counter()
    what = _described(train_from, as_names(freeze), as_names(unfreeze))
    recipe = Recipe(epochs, lr, batch_size, seed=seed, batchnorm=batchnorm)
    probe: dict[str, Any] = {"clf": clf, "scale": scale, "cv": cv, "seed": seed}
    extraction = {"backbone": backbone, "weights": weights, "image_size": image_size, "resize": resize, "views": views}
    running: dict[str, Any] = {"allow_outside": allow_outside, "device": device, "workers": workers}
    running["progress"] = progress
    parts: dict[str, Any] = {"first": train_from, "freeze": as_names(freeze), "unfreeze": as_names(unfreeze)}
    with codes_with_maps(data, images, extraction, parts, running) as (training_data, sources):
        file = training_data.file
        settings = settings_of(file.provenance)
        if weights is not None:
            settings = replace(settings, weights=os.fspath(weights))
        network_of_codes = load_named_backbone(settings)
        require_same_weights(network_of_codes, file.provenance)
        cut = cut_before(network_of_codes, **parts, kept=file.map_layers if sources is None else ())
        _explain(cut, what, batchnorm)
        fitted = fit(training_data, C=C, guard=guard, **probe)
        groups = training_data.groups(guard=guard)
        scored = training_data.scorable(groups).rows
        options = {"groups": groups[scored], "rows": training_data.train[scored]}
        search = training_data.search(PENULTIMATE, Cs=grid_of(C), n_jobs=AUTO, **options, **probe)
        order = np.concatenate([scored, np.setdiff1d(np.arange(len(groups)), scored)])
        rows, groups = training_data.train[order], groups[order]
        classes, truth = np.unique(file.labels[rows], return_inverse=True)
        test = training_data.scored_rows(guard=guard) if training_data.has_held_out else rows[:0]
        every = np.concatenate([rows, test])
        maps = cached_maps(file, every, cut, sources, weights=weights, **running)
        whole, pixels = cut_before(network_of_codes, TRAIN_ALL) if curves else None, maps
        if whole is not None and cut.below != whole.below:  # before the training, which would be lost without images
            pixels = cached_maps(file, every, whole, sources, weights=weights, **running)
        task = Task(
            X=training_data.codes(PENULTIMATE, rows),
            maps=maps,
            truth=truth,
            classes=classes,
            groups=groups,
            search=search,
            clf=clf,
            scale=scale,
            scaling=training_data.scaling(PENULTIMATE, scale),
            cut=cut,
            pooling=file.provenance.pooling,
            recipe=recipe,
            device=resolve_device(device or AUTO),
        )
        kept = State.open(None if state is None else Path(state), _digest_of(task, file, rows))
        with inference_settings():
            answers, trained, share = _train(task, kept, always, _Watchers(progress, on_epoch, on_step))
            held_out = HeldOut(file.labels[test], file.groups[test])
            result = make_result(fitted, task, answers, trained, share, what, held_out, 0.0, file.sha256[rows])
            result = replace(result, seconds=time.perf_counter() - started)
            if result.stopped_after is not None:
                raise StoppedError(result)
            if whole is None:
                return result
            points = measure_curves(task, replace(task, cut=whole, maps=pixels), settings, held_out, what, progress)
        return replace(result, curves=points)


def _described(train_from: str, freeze: Sequence[str], unfreeze: Sequence[str]) -> str:
    """Return what is trained, as a user may say it."""
    more = f" with {', '.join(unfreeze)}" if unfreeze else ""
    less = f" without {', '.join(freeze)}" if freeze else ""
    return train_from + more + less


def _explain(cut: Cut, what: str, batchnorm: bool) -> None:
    """Say what is slower than a user may expect, and refuse to move statistics that are not there."""
    if cut.frozen_in_steps:
        logger.warning(
            "no cut separates %s from what stays frozen: the network runs from the pixels on in every step, and is not "
            "computed once",
            what,
        )
    if batchnorm and not moving_statistics(cut.top):
        setting = parameter("batchnorm", True)
        raise SettingError(f"{setting}: in {what} there is no batch normalisation whose statistics could move")


def _digest_of(task: Task, file: CodesFile, rows: np.ndarray) -> str:
    """Return a digest of all that decides a run: a state of another run is of no use."""
    search = task.search
    facts = {
        "layout": 3,  # of the state: no epoch is the best
        "recipe": asdict(task.recipe),
        "below": task.cut.below,
        "trained": sorted(task.cut.depths),
        "probe": [task.clf, task.scale, search.C, search.temperature],
        "codes": file.provenance.to_json(),
        "images": hashlib.sha256(file.sha256[rows].tobytes() + task.truth.tobytes()).hexdigest(),
        "groups": hashlib.sha256("\0".join(task.groups.tolist()).encode("utf-8", "surrogatepass")).hexdigest(),
        "folds": hashlib.sha256(b"".join(test.tobytes() for _, test in search.folds)).hexdigest(),
        "device": task.device.type,
        "versions": [version("cnncodes"), version("torch")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class _Watchers(NamedTuple):
    """Whom to tell how far training is."""

    progress: Progress | None
    on_epoch: Callable[[str, Epoch], None] | None
    on_step: Callable[[str, Epoch], None] | None


def _train(task: Task, state: State, always: bool, watchers: _Watchers) -> tuple[OutOfFold, Trained | None, float]:
    """Answer the folds, and train on all images unless the probe is better; the share of the way is then 0."""
    folds = task.search.folds[: folds_to_answer(task.search.folds)]
    lengths = [task.recipe.epochs * task.recipe.steps_per_epoch(len(train)) for train, _ in folds]
    lengths.append(task.recipe.epochs * task.recipe.steps_per_epoch(len(task.truth)))

    def on_step(training: Training, job: int) -> None:
        if watchers.progress is not None:
            watchers.progress(sum(lengths[:job]) + training.step, sum(lengths), 0)
        if watchers.on_step is not None:
            what = f"fold {job + 1} of {len(folds)}" if job < len(folds) else "all images"
            watchers.on_step(what, training.so_far)

    answers = answer_folds(task, state, on_step, watchers.on_epoch)
    share = answers.best_share(tuned=always)
    if not share:
        return answers, None, share
    with patience(SAVING_SECONDS):
        return answers, train_on_all(task, share, state, on_step, watchers.on_epoch), share
