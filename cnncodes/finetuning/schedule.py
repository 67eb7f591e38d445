"""Rates and order of images as pure functions of the step and the seed: a run that is continued is the same run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cnncodes.errors import SettingError

__all__ = ["Recipe", "epoch_order", "layer_rates", "rate_at"]

BOTTOM_RATE = 0.1  # of the rate at the head: what the first layer of a network is trained with
WARM_UP_EPOCHS = 1


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs : int, default=8
        How often each image is seen.
    lr : float, default=3e-4
        Largest rate of AdamW, for the head. Training from random weights usually takes ten times as much; here the
        network is to keep what it knows.
    batch_size : int, default=32
    weight_decay : float, default=0.01
    seed : int, default=0
    batchnorm : bool, default=False
        Let batch normalisation that is trained normalise by the batch, and move its statistics.
    """

    epochs: int = 8
    lr: float = 3e-4
    batch_size: int = 32
    weight_decay: float = 0.01
    seed: int = 0
    batchnorm: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise SettingError(f"{self.epochs} epochs in batches of {self.batch_size}; each must be at least 1")
        if self.batchnorm and self.batch_size < 2:
            raise SettingError("batch normalisation that moves its statistics needs batches of at least 2 images")
        if not 0 < self.lr < 1:
            raise SettingError(f"the rate is {self.lr}; it must be above 0 and below 1")

    def steps_per_epoch(self, n: int) -> int:
        """Return how many steps n images take; no batch that batch normalisation normalises by has a single image."""
        steps = math.ceil(n / self.batch_size)
        return max(1, min(steps, n // 2)) if self.batchnorm else steps


def rate_at(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the share of the largest rate that a step has: up over one epoch, then down by a half cosine.

    Parameters
    ----------
    step : int
        From 0.
    steps_per_epoch, epochs : int

    Examples
    --------
    >>> [round(rate_at(step, 2, 4), 2) for step in range(8)]
    [0.5, 1.0, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
    """
    warm_up = WARM_UP_EPOCHS * steps_per_epoch
    if step < warm_up:
        return (step + 1) / warm_up
    return (1 + math.cos(math.pi * (step - warm_up) / max(1, epochs * steps_per_epoch - warm_up))) / 2


def layer_rates(depths: Mapping[str, float]) -> dict[str, float]:
    """Return the share of the rate that each parameter gets: smaller towards the bottom (Howard, Ruder 2018).

    Parameters
    ----------
    depths : mapping of str to float
        How far up in the network each parameter is, from 0 to 1.

    Examples
    --------
    >>> layer_rates({"first": 0.0, "last": 1.0})
    {'first': 0.1, 'last': 1.0}
    """
    return {name: BOTTOM_RATE ** (1 - depth) for name, depth in depths.items()}


def epoch_order(n: int, n_views: int, epoch: int, recipe: Recipe) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the images of each batch of an epoch, and which view of each is seen.

    Parameters
    ----------
    n, n_views : int
        Images that are trained on, and views of each.
    epoch : int
        From 0.
    recipe : Recipe

    Returns
    -------
    rows, views : list of ndarray of int
        The batches. They have nearly the same length, so that none is a small rest.
    """
    rng = np.random.default_rng([recipe.seed, epoch])
    order, views = rng.permutation(n), rng.integers(n_views, size=n)
    parts = recipe.steps_per_epoch(n)
    return np.array_split(order, parts), np.array_split(views, parts)
