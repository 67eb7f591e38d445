"""Compiles a forward pass for the shape of its batches."""

from __future__ import annotations

import threading
from typing import cast

import torch
from torch import nn

__all__ = ["compile_forward"]

RECOMPILE_LIMIT = 1000  # torch's default, 8, silently runs every further network uncompiled
_compiling = threading.Lock()  # the options of the compiler apply to the whole process


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
