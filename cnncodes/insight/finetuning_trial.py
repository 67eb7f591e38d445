"""A short run of fine-tuning on a sample of the images: whether it pays, before anybody waits for the whole of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncodes.display import points
from cnncodes.extraction.in_memory import require_same_weights
from cnncodes.extraction.settings import load_named_backbone, settings_of
from cnncodes.finetuning.cached_maps import cached_maps
from cnncodes.finetuning.out_of_fold import Task, answer_folds, folds_to_answer
from cnncodes.finetuning.schedule import Recipe
from cnncodes.finetuning.state import State
from cnncodes.finetuning.training import Training
from cnncodes.images.image_set import Images
from cnncodes.insight.evidence import UNDECIDED, WORTHWHILE_GAIN, Evidence
from cnncodes.networks.cut import cut_before
from cnncodes.probes.estimate import Estimate
from cnncodes.probes.protocol import TrainingData
from cnncodes.probes.sampling import stratified_sample
from cnncodes.probes.search import Search
from cnncodes.runtime.devices import resolve_device
from cnncodes.system.process import inference_settings
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO, DEFAULT_SCALING, PENULTIMATE

__all__ = ["FinetuningTrial", "try_finetuning"]

FIRST = "layer4"  # the part that is trained, with the head: the cheapest that gains much
MAX_IMAGES = 2000
MIN_IMAGES_OF_A_CLASS = 6  # of a sample, so that each fold has some
FOLDS = 3
EPOCHS = 4


@dataclass(frozen=True)
class FinetuningTrial:
    """What a short run of fine-tuning on a sample came to.

    Attributes
    ----------
    first : str
        The first part of the network that was trained.
    layers : list of str
        Layers of the probe that it is compared with.
    n, n_all : int
        Images of the sample, and of the set.
    epochs : int
        How often each image of the sample was seen, at most.
    gain : Estimate
        What it adds to the accuracy of that probe on the same images, out of fold, with a 95 % interval.
    pays : bool
        Whether the gain is larger than its standard error.
    probe_accuracy : float
        Accuracy of the probe.
    seconds : float
        Duration.
    """

    first: str
    layers: list[str]
    n: int
    n_all: int
    epochs: int
    gain: Estimate
    pays: bool
    probe_accuracy: float
    seconds: float

    @property
    def verdict(self) -> str:
        """``"fine-tune"``, ``"probe"`` (no gain that is worth it is in the interval) or ``"undecided"``."""
        if self.pays:
            return "fine-tune"
        return "probe" if self.gain.high < WORTHWHILE_GAIN else UNDECIDED

    @property
    def answer(self) -> str:
        """What was found, in one clause."""
        low, high = points(self.gain.low), points(self.gain.high)
        gain = f"{points(self.gain.value)} points ({low} to {high}) over the probe of {' + '.join(self.layers)}"
        start = f"fine-tuning from {self.first}, tried on {self.n:,} of {self.n_all:,} images,"
        if self.pays:
            return f"{start} {'gains' if float(low) > 0 else 'likely gains'} {gain}"
        enough = "the probe is enough" if self.verdict == "probe" else "it may gain with more images"
        return f"{start} brings {gain}: {enough}"

    @property
    def evidence(self) -> Evidence:
        """The same as an observation."""
        low, high = points(self.gain.low), points(self.gain.high)
        figures = (
            f"{points(self.gain.value)} points ({low} to {high}) from {self.first}, {self.n:,} images, "
            f"{self.epochs} epochs, {self.seconds:.0f} s"
        )
        return Evidence("fine-tuning", figures, self.verdict)

    @property
    def not_tried(self) -> str:
        """What might gain more, in one sentence."""
        all_images = f"all {self.n_all:,} images, " if self.n < self.n_all else ""
        return f"of fine-tuning, these were not tried: {all_images}more than {self.epochs} epochs, lower layers"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON, by the names that `finetune` has for it."""
        return {
            "from": self.first,
            "layers": self.layers,
            "n": self.n,
            "n_all": self.n_all,
            "epochs": self.epochs,
            "gain": self.gain.value,
            "gain_interval": self.gain.interval,
            "pays": self.pays,
            "verdict": self.verdict,
            "probe_accuracy": self.probe_accuracy,
            "seconds": self.seconds,
        }


def try_finetuning(
    data: TrainingData,
    images: Images | None = None,
    *,
    layers: Sequence[str] = (PENULTIMATE,),
    allow_outside: bool = False,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> FinetuningTrial:
    """Train the last stage and the head on folds of a sample, from cached maps, and compare with the probe.

    Parameters
    ----------
    data : TrainingData
        With the codes of `penultimate`.
    images : path, sequence, ndarray or ImageSet, optional
        The images that the codes file was made from; they are needed if it does not keep the maps.
    layers : sequence of str, default=("penultimate",)
        Layers of the probe that it is compared with. Training begins with the probe of `penultimate` in any case.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.
    weights : path, optional
        Path of the weights file, if it has moved since the codes were made.
    seed : int, default=0
        Seed of the sample, the folds and the order of images.
    progress : callable, optional
        Called with (done, total, failed): images, then steps of training.

    Raises
    ------
    ProbeError
        There are neither maps nor images, or too few images.
    BackboneError
        The network cannot be cut in two.
    MismatchError
        The images, or the weights, are not those of the codes file.
    """
    started = time.perf_counter()
    running: dict[str, Any] = {"allow_outside": allow_outside, "weights": weights, "progress": progress}
    task, rows = _task(data, images, seed, running)
    lengths = [
        task.recipe.epochs * task.recipe.steps_per_epoch(len(train))
        for train, _ in task.search.folds[: folds_to_answer(task.search.folds)]
    ]

    def on_step(training: Training, fold: int) -> None:
        if progress is not None:
            progress(sum(lengths[:fold]) + training.step, sum(lengths), 0)

    with inference_settings():
        answers = answer_folds(task, State(None, ""), on_step)
    probe = _search(data, layers, rows, task.groups, seed)
    answers = replace(answers, decision=answers.decision | {0.0: probe.decision[answers.rows]})
    share = answers.best_share(tuned=True)
    return FinetuningTrial(
        first=FIRST,
        layers=list(layers),
        n=len(task.truth),
        n_all=len(data.train),
        epochs=task.recipe.epochs,
        gain=Estimate(*answers.gain(share)),
        pays=answers.pays(share),
        probe_accuracy=float(answers.right(0.0).mean()),
        seconds=time.perf_counter() - started,
    )


def _task(data: TrainingData, images: Images | None, seed: int, running: dict[str, Any]) -> tuple[Task, np.ndarray]:
    """Return what is trained, and the rows of its images: a sample in which each class has its share."""
    settings = settings_of(data.file.provenance)
    if (weights := running["weights"]) is not None:
        settings = replace(settings, weights=os.fspath(weights))
    backbone = load_named_backbone(settings)
    require_same_weights(backbone, data.file.provenance)
    cut = cut_before(backbone, FIRST)
    of_class = np.unique(data.labels, return_inverse=True)[1]
    sample = stratified_sample(of_class, MAX_IMAGES, least=MIN_IMAGES_OF_A_CLASS, seed=seed)
    sample = sample[data.scorable(data.groups()[sample], data.train[sample]).rows]
    rows, groups = data.train[sample], data.groups()[sample]
    search = _search(data, [PENULTIMATE], rows, groups, seed)
    task = Task(
        X=data.codes(PENULTIMATE, rows),
        maps=cached_maps(data.file, rows, cut, images, **running),
        truth=np.searchsorted(search.classes, data.file.labels[rows]),
        classes=search.classes,
        groups=groups,
        search=search,
        clf="svm",
        scale=DEFAULT_SCALING,
        scaling=data.scaling(PENULTIMATE),
        cut=cut,
        pooling=data.file.provenance.pooling,
        recipe=Recipe(EPOCHS, seed=seed),
        device=resolve_device(AUTO),
    )
    return task, rows


def _search(data: TrainingData, layers: Sequence[str], rows: np.ndarray, groups: np.ndarray, seed: int) -> Search:
    """Cross-validate a probe on the folds of the sample."""
    return data.search(layers, groups=groups, rows=rows, cv=FOLDS, seed=seed, n_jobs=AUTO)
