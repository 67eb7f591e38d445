"""How long an epoch of training takes on this machine, measured by a few steps on random maps."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from cnncodes.networks.backbone import Backbone
from cnncodes.networks.cut import cut_before
from cnncodes.networks.pooling import pool
from cnncodes.runtime.devices import resolve_device
from cnncodes.system.process import inference_settings
from cnncodes.vocabulary import AUTO, DEFAULT_POOLING

__all__ = ["epoch_seconds"]

N_IMAGES = 1000  # of the epoch
BATCH_SIZE = 8  # images of a step that is measured
N_CLASSES = 10  # of the head that is trained with it
STEPS = 2  # that are measured, after one that is not; the faster counts


def epoch_seconds(backbone: Backbone, first: str) -> float:
    """Return the seconds of an epoch of 1,000 images where nothing else runs, from steps of 8 images.

    Parameters
    ----------
    backbone : Backbone
    first : str
        The first part that is trained, as for `cut_before`.

    Raises
    ------
    BackboneError
        The network cannot be cut there.
    """
    with inference_settings():
        cut = cut_before(backbone, first)
        device = resolve_device(AUTO)
        # One thread computes all of a step: its own time is that of an idle machine, whatever else runs meanwhile
        clock = time.thread_time if device.type == "cpu" else time.perf_counter
        maps = torch.randn(BATCH_SIZE, *cut.map_shape, generator=torch.Generator().manual_seed(0)).to(device)
        if maps.ndim == 4:
            maps = maps.to(memory_format=torch.channels_last)
        top = cut.top.to(device).to(memory_format=torch.channels_last)
        with torch.no_grad():
            width = pool(top(maps), DEFAULT_POOLING).shape[1]
        head = nn.utils.skip_init(nn.Linear, width, N_CLASSES, device=device)  # draws no random numbers
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        optimizer = torch.optim.AdamW([*top.parameters(), *head.parameters()])
        truth = torch.arange(BATCH_SIZE, device=device) % N_CLASSES
        seconds = []
        for _ in range(1 + STEPS):
            started = clock()
            loss = nn.functional.cross_entropy(head(pool(top(maps), DEFAULT_POOLING)), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            float(loss.detach())  # waits for a GPU
            seconds.append(clock() - started)
    return min(seconds[1:]) * math.ceil(N_IMAGES / BATCH_SIZE)
