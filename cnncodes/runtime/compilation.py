"""Compiles a forward pass, and estimates what that would save."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from cnncodes.system.process import inference_settings

__all__ = ["COMPILE_SECONDS", "compile_forward", "seconds_saved"]

COMPILE_SECONDS = 40.0  # what the first compilation of a network takes; later runs find it in torch's own cache
SAVED = 0.4  # part of the time of the uncompiled forward pass
SAVED_FUSED = 0.05  # the same, where convolutions do what follows them already
RECOMPILE_LIMIT = 1000  # torch's default, 8, silently runs every further network uncompiled
_compiling = threading.Lock()  # the options of the compiler are those of the whole process


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
        Whether convolutions do already what follows them.

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


def compile_forward(forward: nn.Module, batch: torch.Tensor) -> nn.Module:
    """Return a version that is compiled for batches of the shape of this one, with the weights as constants.

    The code is made for the number of intra-op threads that is set.

    Parameters
    ----------
    forward : Module
    batch : Tensor
        An example, on the device of the module.

    Returns
    -------
    Module

    Raises
    ------
    Exception
        There is no compiler, or the network cannot be compiled; torch raises many classes for that.
    """
    import torch._dynamo
    from torch._inductor import config  # the option of the same name of torch.compile does nothing (2.15)

    fast = cast(nn.Module, torch.compile(forward, dynamic=False))
    limit = torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT)
    with _compiling, limit, config.patch(freezing=True), torch.inference_mode():
        fast(batch)
    return fast
