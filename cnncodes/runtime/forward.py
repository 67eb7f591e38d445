"""The forward pass as it is run: from a batch of pixels to pooled codes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from cnncodes.networks.outputs import Prefix
from cnncodes.networks.pooling import pool
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.runtime.fusion import is_hooked
from cnncodes.vocabulary import MAPS

__all__ = ["Forward", "channels_last", "fold"]

logger = logging.getLogger(__name__)

NO_PREFIXES: Mapping[str, Prefix] = {}


class Forward(nn.Module):
    """From a batch of pixels to the codes of each layer, and to maps as the network gives them."""

    def __init__(
        self,
        extractor: nn.Module,
        preprocessing: Preprocessing,
        pooling: str,
        dtype: torch.dtype,
        computed: Sequence[str],
        prefixes: Mapping[str, Prefix] = NO_PREFIXES,
    ) -> None:
        super().__init__()
        self.extractor, self.preprocessing, self.pooling, self.dtype = extractor, preprocessing, pooling, dtype
        self.pooled = {name: prefixes.get(name, Prefix()) for name in computed if not name.startswith(MAPS)}
        self.maps = [key for key in computed if key.startswith(MAPS)]

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.outputs(batch)
        codes = {name: pool(outputs[name], self.pooling, prefix) for name, prefix in self.pooled.items()}
        return codes | {key: outputs[key.removeprefix(MAPS)] for key in self.maps}

    def outputs(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what the network gives for each layer, before pooling."""
        x = self.preprocessing.normalise(batch).to(memory_format=torch.channels_last)  # (n, 3, S, S)
        with torch.autocast(batch.device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs: dict[str, torch.Tensor] = self.extractor(x)
        return outputs


def fold(extractor: nn.Module) -> tuple[nn.Module, bool]:
    """Copy a network, with each batch normalisation folded into the convolution before it, if the graph allows that.

    Parameters
    ----------
    extractor : Module
        In eval mode.

    Returns
    -------
    copy : Module
    is_folded : bool
        False for a network that is not traced, has hooks, or calls a convolution or a normalisation twice.
    """
    if isinstance(extractor, torch.fx.GraphModule) and not _is_shared_or_hooked(extractor):
        from torch.fx.experimental.optimization import fuse

        try:
            return fuse(extractor, no_trace=True).eval(), True
        except Exception as error:  # it refuses what it does not know in many ways
            logger.info("batch normalisation is not folded (%s)", error)
    return copy.deepcopy(extractor).eval(), False


def channels_last(network: nn.Module) -> nn.Module:
    """Lay out the weights of convolutions of maps with their channels last, in place; others stay as they are."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def _is_shared_or_hooked(network: torch.fx.GraphModule) -> bool:
    """Whether folding would change another call of the same convolution, or pass over a hook."""
    called = [network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"]
    foldable = [module for module in called if isinstance(module, _ConvNd | _BatchNorm)]
    return any(map(is_hooked, foldable)) or len(set(foldable)) < len(foldable)
