"""Turns the output of a layer into one vector an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cnncodes.errors import SettingError
from cnncodes.networks.outputs import Prefix

__all__ = ["NO_PREFIX", "POOLINGS", "pool"]

GEM_POWER = 3.0  # Radenović, Tolias, Chum 2018: the generalised mean lies between the average (1) and the maximum (∞)
NO_PREFIX = Prefix()  # of maps, and of tokens that are all patches


def _class_token(maps: torch.Tensor, prefix: Prefix) -> torch.Tensor:
    if not prefix.has_class:
        raise SettingError("there is no class token; pool in another way")
    return maps[:, :, 0, 0]


def _patches(maps: torch.Tensor, prefix: Prefix) -> torch.Tensor:
    return maps[:, :, prefix.n_tokens :].mean(dim=(2, 3))


POOLINGS: dict[str, Callable[[torch.Tensor, Prefix], torch.Tensor]] = {  # (n, C, H, W) -> (n, n_features)
    "avg": lambda maps, _: maps.mean(dim=(2, 3)),
    "max": lambda maps, _: maps.amax(dim=(2, 3)),
    "gem": lambda maps, _: maps.clamp(min=1e-6).pow(GEM_POWER).mean(dim=(2, 3)).pow(1 / GEM_POWER),
    "grid2": lambda maps, _: nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1),
    "flatten": lambda maps, _: maps.flatten(1),
    "cls": _class_token,
    "patches": _patches,
    "cls+patches": lambda maps, prefix: torch.cat([_class_token(maps, prefix), _patches(maps, prefix)], 1),
}


def pool(x: torch.Tensor, pooling: str, prefix: Prefix = NO_PREFIX) -> torch.Tensor:
    """Return one float32 vector an image.

    Parameters
    ----------
    x : Tensor, shape (n, C, H, W), (n, tokens, D) or (n, D)
        Vectors are returned as they are.
    pooling : {"avg", "max", "gem", "grid2", "flatten", "cls", "patches", "cls+patches"}
        Mean, maximum, generalised mean (power 3), means of the 2 × 2 quarters, or the whole map in (C, H, W) order;
        these take tokens for pixels, whatever they stand for. The class token; the mean of the patches, which are all
        places of a map; or both, one beside the other.
    prefix : Prefix
        The tokens that stand before the patches; none by default.

    Returns
    -------
    Tensor of float32, shape (n, n_features)

    Raises
    ------
    SettingError
        There is no class token.
    """
    x = x.float()
    if x.ndim == 2:
        return x
    if x.ndim == 3:  # tokens take the place of pixels
        x = x.transpose(1, 2).unsqueeze(-1)
    return POOLINGS[pooling](x, prefix)
