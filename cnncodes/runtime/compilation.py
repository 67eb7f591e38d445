"""Compiles a forward pass where that pays: for many images, and where a compiler is at hand."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from cnncodes.system.process import inference_settings

__all__ = ["compiled", "pays"]

logger = logging.getLogger(__name__)

COMPILE_SECONDS = 40.0  # what the first compilation of a network takes; later runs find it in torch's own cache
SAVED = 0.4  # of the time of the uncompiled forward pass
SAVED_FUSED = 0.05  # … where convolutions do what follows them already
MANY = 1000  # networks of a process; of more than 8, torch would run the others uncompiled without a word
_compiling = threading.Lock()  # the options of the compiler are those of the whole process
FEWEST = 1000  # images for which it is worth a thought


def pays(run: Callable[[], Any], n_batches: float, workers: int, *, fused: bool) -> bool:
    """Whether compiling takes less time than it saves; `run` computes one batch, on one thread."""
    with inference_settings():
        run()
        started = time.perf_counter()
        run()
        seconds = time.perf_counter() - started
    saved = (SAVED_FUSED if fused else SAVED) * seconds * n_batches / workers
    logger.info("compiling would save about %.0f s, and take about %.0f s", saved, COMPILE_SECONDS)
    return saved > COMPILE_SECONDS


def compiled(forward: nn.Module, batch: torch.Tensor) -> nn.Module:
    """Return a version that is compiled for batches of the shape of this one, with the weights as constants.

    The code is made for the number of intra-op threads that is set.

    Raises
    ------
    Exception
        Of many kinds: there is no compiler, or the network cannot be compiled.
    """
    import torch._dynamo
    from torch._inductor import config  # the option of the same name of torch.compile does nothing (2.15)

    fast = cast(nn.Module, torch.compile(forward, dynamic=False))
    limit = torch._dynamo.config.patch(recompile_limit=MANY)
    with _compiling, limit, config.patch(freezing=True), torch.inference_mode():
        fast(batch)
    return fast
