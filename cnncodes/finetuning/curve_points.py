"""Trains the same images in several ways, and scores each after every epoch on the same held-out images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, process_time
from typing import Any

import numpy as np

from cnncodes.extraction.settings import Settings
from cnncodes.finetuning.curves import ALL, PROCESSOR, SCRATCH, TUNED, WALL, Curves, Point
from cnncodes.finetuning.out_of_fold import Task
from cnncodes.finetuning.result import HeldOut
from cnncodes.finetuning.scratch import ScratchTraining, scratch_training
from cnncodes.finetuning.training import Training, decide
from cnncodes.probes.decision_values import winner
from cnncodes.probes.scores import score
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import PIXELS

__all__ = ["measure_curves"]


def measure_curves(
    task: Task,
    whole: Task,
    settings: Settings,
    held_out: HeldOut,
    first: str,
    progress: Progress | None = None,
) -> Curves:
    """Train from the probe on a part of the network and all of it, and all of it from random weights.

    All of them see the same images, those of the first fold where no images are held out. From random weights each
    image is seen four times as often.

    Parameters
    ----------
    task : Task
    whole : Task
        The same task with the whole network, and the pixels of the images.
    settings : Settings
        Those of the codes, which name the network.
    held_out : HeldOut
        Held-out images, whose maps follow those of the training images; there may be none.
    first : str
        The first part that is fine-tuned.
    progress : callable, optional
        Called with (done, total, 0): steps of all trainings.
    """
    if n := len(held_out.labels):
        rows, test = np.arange(len(task.truth)), len(task.truth) + np.arange(n)
    else:
        task, whole = task.of_folds(), whole.of_folds()
        rows, test = task.search.folds[0]
        held_out = HeldOut(task.classes[task.truth[test]], task.groups[test])
    clock = process_time if task.device.type == "cpu" else perf_counter  # other programs do not slow the former down
    probe_seconds = _time_of_probe(whole, rows, clock)
    trainings: dict[str, Training] = {TUNED: task.training(rows)}
    if task.cut.below != PIXELS:
        trainings[ALL] = whole.training(rows)
    trainings[SCRATCH] = scratch_training(whole, settings, rows)
    total, lines = sum(one.steps_per_epoch * one.recipe.epochs for one in trainings.values()), {}

    def answer(training: Training) -> dict[str, Any]:
        if isinstance(training, ScratchTraining):
            training.measure_statistics()
        answers = task.classes[winner(decide(training.network, training.maps, test, task.device))]
        accuracy = score(held_out.labels, answers, groups=held_out.groups).accuracy
        return {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}

    done = 0

    def on_step() -> None:
        nonlocal done
        if progress is not None:
            progress(min(done, total), total, 0)
        done += 1

    for name, training in trainings.items():
        lines[name] = _follow(training, 0.0 if name == SCRATCH else probe_seconds, clock, answer, on_step)
        done -= 1  # each is told of before its first step, too
    return Curves(
        first=first,
        n_train=len(rows),
        n_answers=len(test),
        held_out=n > 0,
        seed=task.recipe.seed,
        device=task.device.type,
        clock=PROCESSOR if clock is process_time else WALL,
        probe=replace(lines[TUNED][0], seconds=probe_seconds),
        lines=lines,
    )


def _time_of_probe(whole: Task, rows: np.ndarray, clock: Callable[[], float]) -> float:
    """Return how long one pass of the training images through the frozen network takes, and the fit of the probe."""
    started = clock()
    network = whole.network(rows).to(whole.device)
    decide(network, whole.maps, rows, whole.device)
    return clock() - started


def _follow(
    training: Training,
    seconds: float,
    clock: Callable[[], float],
    answer: Callable[[Training], dict[str, Any]],
    on_step: Callable[[], Any],
) -> tuple[Point, ...]:
    """Run a training, and return a point for each epoch; the clock stands still while it is scored."""
    points: list[Point] = []
    started = clock()

    def after_step(training: Training) -> None:
        nonlocal seconds, started
        seconds += clock() - started
        if len(training.curve) > len(points):
            points.append(Point(epoch=len(points), seconds=seconds, **answer(training)))
        on_step()
        started = clock()

    training.run(after_step)
    return tuple(points)
