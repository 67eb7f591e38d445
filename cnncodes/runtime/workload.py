"""Decides whether compiling a network pays for the images that it is to run on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.system.process import core_count, inference_settings

__all__ = ["Workload", "choose_compiling", "seconds_saved"]

COMPILE_SECONDS = 40.0  # what the first compilation of a network takes; later runs find it in torch's own cache
SAVED = 0.4  # share of the time of a forward pass that compiling saves
SAVED_FUSED = 0.05  # the same, where convolutions are fused already
MIN_IMAGES_TO_COMPILE = 1000  # fewer never repay the time
MIN_IMAGES_TO_COMPILE_A_PART = 5000


@dataclass(frozen=True)
class Workload:
    """The images that a network is to run on, which decide whether compiling pays.

    Attributes
    ----------
    n_images : int, default=0
        Number of images.
    workers : int, optional
        Threads that run batches at the same time; by default one a core.
    parts : int, optional
        Number of parts that the images are split into; each is computed by itself, and they are merged later.
    """

    n_images: int = 0
    workers: int | None = None
    parts: int | None = None


def choose_compiling(network: FrozenNetwork, wanted: bool | None, workload: Workload) -> tuple[bool, str]:
    """Return whether to compile, and why.

    Parameters
    ----------
    network : FrozenNetwork
        Runs by the plan that was chosen.
    wanted : bool or None
        None leaves the choice to the workload. If its images are split into parts, only their number counts: a
        measured time could decide differently for each part, and such parts could not be merged.
    workload : Workload
    """
    n_images, parts = workload.n_images, workload.parts
    if wanted is not None:
        return wanted, "as asked"
    if not isinstance(network.extractor, fx.GraphModule):  # the compiler stops at the hooks of such a network
        return False, "the network cannot be traced"
    if parts is not None:
        if network.plan.fused:
            return False, "its convolutions are fused already"
        pays = n_images // parts >= MIN_IMAGES_TO_COMPILE_A_PART
        return pays, f"{n_images // parts} images a part, worth it from {MIN_IMAGES_TO_COMPILE_A_PART}"
    preprocessing, plan = network.backbone.preprocessing, network.plan
    n_squares = n_images * math.prod(preprocessing.middle_axis)
    if n_squares < MIN_IMAGES_TO_COMPILE:
        return False, f"fewer than {MIN_IMAGES_TO_COMPILE} images"
    size = preprocessing.image_size
    blank = torch.zeros((plan.batch_size, 3, size, size), dtype=torch.uint8)
    at_once = (workload.workers or core_count()) if plan.devices[0].type == "cpu" else len(plan.devices)
    saved = seconds_saved(lambda: network.unrounded(blank), n_squares / plan.batch_size, at_once, fused=plan.fused)
    return saved > COMPILE_SECONDS, f"it would save about {saved:.0f} s, and take about {COMPILE_SECONDS:.0f} s"


def seconds_saved(run: Callable[[], Any], n_batches: float, workers: int, *, fused: bool) -> float:
    """Estimate the seconds that compiled code would save.

    Parameters
    ----------
    run : callable
        Computes one batch, on one thread; is called twice.
    n_batches : float
        How many batches there are.
    workers : int
        How many of them run at the same time.
    fused : bool
        Whether convolutions are fused already.

    Returns
    -------
    float
    """
    with inference_settings():
        run()
        started = time.perf_counter()
        run()
        seconds = time.perf_counter() - started
    return (SAVED_FUSED if fused else SAVED) * seconds * n_batches / workers
