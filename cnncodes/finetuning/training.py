"""Trains the upper part of a network with a probe on it, one step after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from cnncodes.finetuning.cached_maps import CachedMaps
from cnncodes.finetuning.head import HEAD, TOP, TunedNetwork
from cnncodes.finetuning.schedule import Recipe, epoch_order, layer_rates, rate_at

__all__ = ["Epoch", "Training", "decide", "mixed"]

ANSWER_BATCH = 64  # maps that are answered at once


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training came to.

    Attributes
    ----------
    number : int
        From 1; 0 is the probe.
    loss : float
        Mean loss of its steps; NaN for epoch 0.
    """

    number: int
    loss: float


@dataclass
class Training:
    """One run of training, which can be continued where it ended.

    Parameters
    ----------
    network : TunedNetwork
        Is trained in place.
    maps : CachedMaps
    truth : ndarray of int, shape (n,)
        Index of the class of each image of `maps`.
    rows : ndarray of int
        Images that are trained on.
    recipe : Recipe
    depths : mapping of str to float
        How far up in the network each of its parameters is.
    device : torch.device

    Attributes
    ----------
    step : int
        Steps that are done.
    curve : list of Epoch
        From epoch 0 on.
    complete : dict of str to Tensor
        What training changes, as it was after the last complete epoch.
    losses : list of float
        Those of the steps of the epoch that is under way.
    """

    network: TunedNetwork
    maps: CachedMaps
    truth: np.ndarray
    rows: np.ndarray
    recipe: Recipe
    depths: Mapping[str, float]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    step: int = 0
    curve: list[Epoch] = field(default_factory=list)
    complete: dict[str, torch.Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        rates = layer_rates(self.depths)
        self.network.to(self.device).to(memory_format=torch.channels_last).train(False)
        groups = [
            {"params": [parameter], "share": rates.get(name, 1.0)} for name, parameter in self.network.trained().items()
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=self.recipe.lr, weight_decay=self.recipe.weight_decay)
        self.steps_per_epoch = self.recipe.steps_per_epoch(len(self.rows))

    @property
    def so_far(self) -> Epoch:
        """The epoch that is under way, with the mean loss of its steps so far."""
        return Epoch(len(self.curve), float(np.mean(self.losses)) if self.losses else np.nan)

    @property
    def done(self) -> bool:
        """Whether nothing is left to train."""
        return len(self.curve) > self.recipe.epochs

    def run(self, after_step: Callable[[Training], None] | None = None) -> None:
        """Train until the end, from where the training is.

        Parameters
        ----------
        after_step : callable, optional
            Called with this training before the first step and after each; what it raises ends the run.
        """
        if not self.curve:
            self._end_epoch()
        if after_step is not None:
            after_step(self)
        while not self.done:
            epoch, first = divmod(self.step, self.steps_per_epoch)
            rows, views = epoch_order(len(self.rows), self.maps.n_views, epoch, self.recipe)
            for i in range(first, len(rows)):
                self.losses.append(self._train(self.rows[rows[i]], views[i]))
                self.step += 1
                if i == len(rows) - 1:
                    self._end_epoch()
                if after_step is not None:
                    after_step(self)

    def _train(self, rows: np.ndarray, views: np.ndarray) -> float:
        rate = self.recipe.lr * rate_at(self.step, self.steps_per_epoch, self.recipe.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        maps = self.maps.batch(rows, views).to(self.device)
        truth = torch.from_numpy(self.truth[rows]).to(self.device)
        # One view stands for all of its image, whose decision values are summed when it is answered
        decision = self.network.train()(maps) * self.maps.n_views
        sides = torch.cat([-decision / 2, decision / 2], dim=1) if decision.shape[1] == 1 else decision
        loss = nn.functional.cross_entropy(sides, truth)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _end_epoch(self) -> None:
        self.curve.append(self.so_far)
        self.losses = []
        self.complete = self.network.tensors()

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return all that `restore` needs to go on from here: values for JSON, and tensors."""
        values = {
            "step": self.step,
            "curve": [list(vars(epoch).values()) for epoch in self.curve],
            "losses": self.losses,
        }
        tensors = {f"complete/{name}": one for name, one in self.complete.items()}
        tensors |= {f"now/{name}": one.detach() for name, one in self.network.learned().items()}
        for name, parameter in self.network.trained().items():
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"{moment}/{name}": value for moment, value in moments.items()}
        return values, tensors

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from where `state` was asked."""
        self.step, self.losses = values["step"], list(values["losses"])
        self.curve = [Epoch(*epoch) for epoch in values["curve"]]
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = tensor
        self.network.put(parts.pop("now"))
        self.complete = {name: tensor.to(self.device) for name, tensor in parts.pop("complete").items()}
        for name, parameter in self.network.trained().items():
            moments = {moment: values[name] for moment, values in parts.items() if name in values}
            if moments:
                self.optimizer.state[parameter] = {
                    moment: value if value.ndim == 0 else torch.empty_like(parameter).copy_(value)
                    for moment, value in moments.items()
                }


def mixed(start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Return what `end` holds, a share of the way from `start` to it (Wortsman et al. 2022, WiSE-FT).

    `start` may hold more than that, such as parameters that are not trained.
    """
    return {name: torch.lerp(start[name], one, share) for name, one in end.items()}


@torch.no_grad()
def decide(
    network: TunedNetwork,
    maps: CachedMaps,
    rows: np.ndarray,
    device: torch.device,
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> np.ndarray:
    """Return the decision values of images, shape (n, k), summed over their views.

    Parameters
    ----------
    network : TunedNetwork
    maps : CachedMaps
    rows : ndarray of int, shape (n,)
    device : torch.device
    tensors : mapping of str to Tensor, optional
        Parameters instead of those that the network has.
    """
    named = None
    if tensors is not None:
        named = {name if name.startswith(HEAD) else TOP + name: tensor for name, tensor in tensors.items()}
    network.train(False)
    parts = [np.empty((0, len(network.probe.bias)))]
    for piece in np.array_split(rows, max(1, -(-len(rows) * maps.n_views // ANSWER_BATCH))):
        batch = maps.batch(piece).to(device)
        values = network(batch) if named is None else functional_call(network, named, (batch,))
        parts.append(values.double().cpu().numpy().reshape(len(piece), maps.n_views, -1).sum(axis=1))
    return np.concatenate(parts)
