"""Random weights for networks of tests, made quickly: most networks take longer to draw theirs than to run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import count
from typing import Any

import pytest
import torch
from torch import nn

DRAWN = ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "normal_", "uniform_", "trunc_normal_")
POOL_SIZE = 1_000_000
STEP = 7919  # a prime: layers of one shape have other weights, so that one in the place of another is noticed


def numbers(shape: torch.Size, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@cache
def pool_of_numbers() -> torch.Tensor:
    return numbers(torch.Size([POOL_SIZE])).repeat(2)


@contextmanager
def initialised_quickly() -> Iterator[None]:
    """Let networks that are built meanwhile have weights that are quickly made; their digest is left out."""
    places = count(step=STEP)

    @torch.no_grad()
    def fill(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Fill a parameter with random numbers: the same million again and again, from a place of its own."""
        start = next(places) % POOL_SIZE
        scale = 1 / math.sqrt(max(1, tensor[0].numel())) if tensor.ndim > 1 else 0.1
        for part in tensor.view(-1).split(POOL_SIZE):
            torch.mul(pool_of_numbers()[start : start + len(part)], scale, out=part)
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        for name in DRAWN:
            patch.setattr(nn.init, name, fill)
        if find_spec("timm"):
            patch.setattr("timm.layers.weight_init._trunc_normal_", fill)
        patch.setattr("cnncodes.networks.loading.digest_of", lambda state: "")
        yield
