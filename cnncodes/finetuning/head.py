"""A fitted probe as a module, to be trained with what is below it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import nn

from cnncodes.networks.outputs import Prefix
from cnncodes.networks.pooling import NO_PREFIX, pool
from cnncodes.vocabulary import LEARNED_SCALINGS

__all__ = ["HEAD", "TOP", "ProbeHead", "TunedNetwork", "moving_statistics"]

HEAD, TOP = "probe.", "top."  # what the names of the parameters of the head, and of all others, begin with
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
STATISTICS = ("running_mean", "running_var")


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
        From maps to what enters the head of the network, in eval mode: it stays so. Parameters that are trained require
        a gradient.
    probe : ProbeHead or Linear
    pooling : str
        What makes codes of that, as for the codes of the probe.
    batchnorm : bool, default=False
        Let batch normalisation whose parameters are trained normalise by the batch while the network is trained, and
        move its statistics.
    prefix : Prefix
        The tokens that stand before the patches in what `top` gives.
    """

    def __init__(
        self,
        top: nn.Module,
        probe: ProbeHead | nn.Linear,
        pooling: str,
        batchnorm: bool = False,
        prefix: Prefix = NO_PREFIX,
    ) -> None:
        super().__init__()
        self.top, self.probe, self.pooling, self.prefix = top, probe, pooling, prefix
        self.moving = moving_statistics(top) if batchnorm else {}
        for norm in self.moving.values():
            norm.register_buffer("num_batches_tracked", None)  # counts steps, which only averages over all of them need

    def train(self, mode: bool = True) -> TunedNetwork:
        """Stay in eval mode, where dropout does nothing, but for the batch normalisation that moves."""
        super().train(False)
        for norm in self.moving.values():
            norm.train(mode)
        return self

    def codes(self, maps: torch.Tensor) -> torch.Tensor:
        """Return codes (n, n_features) of maps."""
        return pool(self.top(maps), self.pooling, self.prefix)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return decision values (n, k) of maps."""
        return self.probe(self.codes(maps))

    def trained(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by its names in the network; those of parameters of the probe begin with `HEAD`."""
        named = self.named_parameters()
        return {name.removeprefix(TOP): one for name, one in named if one.requires_grad}

    def learned(self) -> dict[str, torch.Tensor]:
        """Return all that training changes, by names as `trained` has them: parameters, and statistics that move."""
        statistics = {
            f"{path}.{name}": getattr(norm, name) for path, norm in self.moving.items() for name in STATISTICS
        }
        return {**self.trained(), **statistics}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return copies of what `learned` returns."""
        return {name: one.detach().clone() for name, one in self.learned().items()}

    def put(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what `tensors` returned."""
        with torch.no_grad():
            for name, one in self.learned().items():
                one.copy_(tensors[name])


def moving_statistics(top: nn.Module) -> dict[str, nn.Module]:
    """Return the batch normalisations of a module whose parameters are trained, by their paths."""
    return {
        path: norm
        for path, norm in top.named_modules()
        if isinstance(norm, BATCH_NORMS)
        and norm.track_running_stats
        and any(one.requires_grad for one in norm.parameters())
    }
