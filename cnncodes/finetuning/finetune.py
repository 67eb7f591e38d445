"""Trains the upper part of a network further, from a fitted probe on: what `cnncodes finetune` does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import is_hdf5
from cnncodes.errors import SettingError
from cnncodes.extraction.extract import extract
from cnncodes.extraction.in_memory import require_same_weights
from cnncodes.extraction.settings import Settings, load_named_backbone, settings_of
from cnncodes.finetuning.cached_maps import cached_maps
from cnncodes.finetuning.curve_points import measure_curves
from cnncodes.finetuning.head import TunedNetwork
from cnncodes.finetuning.out_of_fold import OutOfFold, Task, answer_folds, folds_to_answer, train_on_all
from cnncodes.finetuning.result import Finetuning, HeldOut, make_result
from cnncodes.finetuning.schedule import Recipe
from cnncodes.finetuning.state import State
from cnncodes.finetuning.training import Epoch, Training
from cnncodes.images.image_set import Images
from cnncodes.models.fit import fit
from cnncodes.networks.cut import cut_before, layer_below
from cnncodes.probes.protocol import Codes, TrainingData
from cnncodes.probes.search import grid_of
from cnncodes.runtime.devices import resolve_device
from cnncodes.system.process import inference_settings
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO, DEFAULT_SCALING, PENULTIMATE, TRAIN_ALL

__all__ = ["Finetuning", "finetune"]


def finetune(
    data: Images | Codes = "codes.h5",
    *,
    train_from: str = "layer4",
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
        Called with what is trained, and with loss and accuracy of each epoch.

    Returns
    -------
    Finetuning
        Its `model` is what is worth keeping.

    Raises
    ------
    ProbeError
        The codes give no probe, or memory does not hold the maps.
    BackboneError
        The network has no such part, or cannot be cut there.
    MismatchError
        The images are not those of the codes file.
    SettingError
        A setting has no such value.

    Examples
    --------
    >>> result = finetune("photos/", train_from="layer4")  # doctest: +SKIP
    >>> print(result.answer)  # doctest: +SKIP
    fine-tuning from layer4 gains +2.9 points (+1.2 to +4.6)
    >>> result.model.save("model.safetensors")  # doctest: +SKIP
    """
    started = time.perf_counter()
    recipe = Recipe(epochs, lr, batch_size, seed=seed)
    probe: dict[str, Any] = {"clf": clf, "scale": scale, "cv": cv, "seed": seed}
    extraction = {"backbone": backbone, "weights": weights, "image_size": image_size, "resize": resize, "views": views}
    running: dict[str, Any] = {"allow_outside": allow_outside, "device": device, "workers": workers}
    running["progress"] = progress
    with _codes_of(data, images, extraction, train_from, running) as (training_data, sources):
        file = training_data.file
        settings = settings_of(file.provenance)
        if weights is not None:
            settings = replace(settings, weights=os.fspath(weights))
        network_of_codes = load_named_backbone(settings)
        require_same_weights(network_of_codes, file.provenance)
        cut = cut_before(network_of_codes, train_from)
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
        kept = State.open(None if state is None else Path(state), _digest_of(task, file, rows, train_from))
        with inference_settings():
            answers, network, share = _train(task, kept, always, progress, on_epoch)
        held_out = HeldOut(file.labels[test], file.groups[test])
        result = make_result(fitted, task, answers, network, share, train_from, held_out, 0.0, file.sha256[rows])
        result = replace(result, seconds=time.perf_counter() - started)
        if whole is None:
            return result
        with inference_settings():
            points = measure_curves(
                task, replace(task, cut=whole, maps=pixels), settings, held_out, train_from, progress
            )
        return replace(result, curves=points)


@contextlib.contextmanager
def _codes_of(
    data: Any,
    images: Images | None,
    extraction: dict[str, Any],
    train_from: str,
    running: dict[str, Any],
) -> Iterator[tuple[TrainingData, Images | None]]:
    """Give the codes to train on, and the images that they were made from."""
    if isinstance(data, (CodesFile, TrainingData)) or _is_codes_file(data):
        if given := [name for name, value in extraction.items() if value is not None and name != "weights"]:
            raise SettingError(f"the codes file says how it was made; {', '.join(given)} can be set for images only")
        with TrainingData.open(data) as training_data:
            yield training_data, images
        return
    layer_below(load_named_backbone(Settings(**extraction)), train_from)  # a wrong part is an error before the work
    with tempfile.TemporaryDirectory(prefix="cnncodes-") as folder:
        codes = Path(folder) / "codes.h5"
        source = data if images is None else images
        extract(source, codes, layers=[PENULTIMATE], **extraction, **running)
        with TrainingData.open(codes) as training_data:
            yield training_data, source


def _is_codes_file(data: Any) -> bool:
    if not isinstance(data, (str, os.PathLike)):
        return False
    return is_hdf5(data) if Path(data).is_file() else Path(data).suffix.lower() in (".h5", ".hdf5")


def _digest_of(task: Task, file: CodesFile, rows: np.ndarray, train_from: str) -> str:
    """Return a digest of all that decides a run: a state of another run is of no use."""
    search = task.search
    facts = {
        "layout": 2,  # of the state: each fold has its parameters
        "recipe": asdict(task.recipe),
        "from": train_from,
        "probe": [task.clf, task.scale, search.C, search.temperature],
        "codes": file.provenance.to_json(),
        "images": hashlib.sha256(file.sha256[rows].tobytes() + task.truth.tobytes()).hexdigest(),
        "groups": hashlib.sha256("\0".join(task.groups.tolist()).encode("utf-8", "surrogatepass")).hexdigest(),
        "folds": hashlib.sha256(b"".join(test.tobytes() for _, test in search.folds)).hexdigest(),
        "device": task.device.type,
        "versions": [version("cnncodes"), version("torch")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _train(
    task: Task,
    state: State,
    always: bool,
    progress: Progress | None,
    on_epoch: Callable[[str, Epoch], None] | None,
) -> tuple[OutOfFold, TunedNetwork | None, float]:
    """Answer the folds, and train on all images unless the probe is better; the share of the way is then 0."""
    folds = task.search.folds[: folds_to_answer(task.search.folds)]
    lengths = [task.recipe.epochs * task.recipe.steps_per_epoch(len(train)) for train, _ in folds]
    lengths.append(task.recipe.epochs * task.recipe.steps_per_epoch(len(task.truth)))

    def on_step(training: Training, job: int) -> None:
        if progress is not None:
            part = training.step / (training.steps_per_epoch * training.last_epoch)
            done = sum(lengths[:job]) + lengths[job] * (1 if training.done else part)
            progress(round(done), sum(lengths), 0)

    answers = answer_folds(task, state, on_step, on_epoch)
    share = answers.best_share(tuned=always)
    if not share:
        return answers, None, share
    network = train_on_all(task, max(1, round(np.median(answers.best_epochs))), share, state, on_step, on_epoch)
    return answers, network, share
