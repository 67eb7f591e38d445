"""Turns the output of a layer into one vector an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["POOLINGS", "pool"]

GEM_POWER = 3.0  # Radenović, Tolias, Chum 2018: the generalised mean lies between the average (1) and the maximum (∞)
POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # (n, C, H, W) -> (n, n_features)
    "avg": lambda maps: maps.mean(dim=(2, 3)),
    "max": lambda maps: maps.amax(dim=(2, 3)),
    "gem": lambda maps: maps.clamp(min=1e-6).pow(GEM_POWER).mean(dim=(2, 3)).pow(1 / GEM_POWER),
    "grid2": lambda maps: nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1),
    "flatten": lambda maps: maps.flatten(1),
}


def pool(x: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return one float32 vector an image.

    Parameters
    ----------
    x : Tensor, shape (n, C, H, W), (n, tokens, D) or (n, D)
        Vectors are returned as they are.
    pooling : {"avg", "max", "gem", "grid2", "flatten"}
        Mean, maximum, generalised mean (power 3), means of the 2 × 2 quarters, or the whole map in (C, H, W) order.

    Returns
    -------
    Tensor of float32, shape (n, n_features)
    """
    x = x.float()
    if x.ndim == 2:
        return x
    if x.ndim == 3:  # tokens take the place of pixels
        x = x.transpose(1, 2).unsqueeze(-1)
    return POOLINGS[pooling](x)
