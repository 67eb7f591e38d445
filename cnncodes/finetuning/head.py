"""A fitted probe as a module, to be trained with what is below it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import nn

from cnncodes.networks.pooling import pool
from cnncodes.vocabulary import LEARNED_SCALINGS

__all__ = ["HEAD", "ProbeHead", "TunedNetwork"]

HEAD = "probe."  # what the names of the parameters of the head begin with


class ProbeHead(nn.Module):
    """From codes to decision values, as a fitted probe has them, divided by its temperature.

    Mean and deviation of the scaling stay as they were fitted; weight and bias can be trained. Codes are centred before
    they are divided and multiplied: folded into the weight, a tiny deviation would cost precision.

    Parameters
    ----------
    probe : Pipeline
        Fitted, of a scaling and a linear classifier.
    scale : {"shrunk", "standard", "l2", "none"}
        Name of the scaling.
    temperature : float
        Decision values are divided by it.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, probe: Pipeline, scale: str, temperature: float) -> None:
        super().__init__()
        scaler, classifier = probe[0], probe[-1]
        n_features = classifier.coef_.shape[1]
        learned = scale in LEARNED_SCALINGS
        self.unit_rows = scale in ("shrunk", "l2")
        mean = scaler.mean_ if learned else np.zeros(n_features)
        deviation = scaler.scale_ if learned else np.ones(n_features)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32))
        self.weight = nn.Parameter(torch.tensor(classifier.coef_ / temperature, dtype=torch.float32))
        self.bias = nn.Parameter(torch.tensor(classifier.intercept_ / temperature, dtype=torch.float32))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return decision values (n, k) of codes (n, n_features)."""
        if self.unit_rows:
            codes = nn.functional.normalize(codes, eps=torch.finfo(torch.float32).tiny)
        return nn.functional.linear((codes - self.mean) / self.deviation, self.weight, self.bias)


class TunedNetwork(nn.Module):
    """The upper part of a network with a probe on it: from maps to decision values.

    Parameters
    ----------
    top : Module
        From maps to what enters the head of the network, in eval mode: it stays so.
    probe : ProbeHead or Linear
    pooling : str
        What makes codes of that, as for the codes of the probe.
    """

    def __init__(self, top: nn.Module, probe: ProbeHead | nn.Linear, pooling: str) -> None:
        super().__init__()
        self.top, self.probe, self.pooling = top, probe, pooling

    def train(self, mode: bool = True) -> TunedNetwork:
        """Stay in eval mode: batch normalisation keeps its statistics, dropout does nothing."""
        return super().train(False)

    def codes(self, maps: torch.Tensor) -> torch.Tensor:
        """Return codes (n, n_features) of maps."""
        return pool(self.top(maps), self.pooling)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return decision values (n, k) of maps."""
        return self.probe(self.codes(maps))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return copies of all parameters, by their names in the network; those of the probe begin with `HEAD`."""
        return {name.removeprefix("top."): one.detach().clone() for name, one in self.named_parameters()}

    def put(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what `tensors` returned."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(tensors[name.removeprefix("top.")])
