"""Measures a network with one pass of noise: lengths of codes, layers that hold the same, the largest map."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from cnncodes.networks.outputs import Prefix
from cnncodes.networks.pooling import pool
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.runtime.forward import NO_PREFIXES
from cnncodes.runtime.frozen_network import too_little_memory
from cnncodes.runtime.plan import Plan

if TYPE_CHECKING:
    from cnncodes.networks.backbone import Backbone

__all__ = ["FirstPass", "first_pass", "measure_backbone"]

SAME_CODES = 1e-5  # two layers hold the same codes when they differ by no more than this, relative to the largest


@dataclass(frozen=True)
class FirstPass:
    """What one pass tells about a network.

    Attributes
    ----------
    layers : dict of str to dict
        ``n_features``, ``pooling`` and ``map_shape`` (before pooling) of each layer.
    links : dict of str to str
        Layers whose codes are those of another, deeper one.
    largest_map : int
        How many numbers the largest map of one image has; 0 for a network that could not be traced.
    """

    layers: dict[str, dict[str, Any]]
    links: dict[str, str]
    largest_map: int


def measure_backbone(backbone: Backbone, plan: Plan) -> FirstPass:
    """Run the layers that a plan computes, on its first device; the backbone stays where it is.

    Raises
    ------
    DeviceError
        The memory of the device does not hold one image.
    """
    device, extractor = plan.devices[0], backbone.extractor(plan.computed)
    try:  # in float32: rounding must not tell equal layers apart
        if device.type != "cpu":
            extractor = copy.deepcopy(extractor).to(device)
        prefixes = backbone.prefixes(plan.computed, plan.pooling)
        return first_pass(extractor, backbone.preprocessing, plan.pooling, device, prefixes)
    except torch.OutOfMemoryError as error:
        raise too_little_memory(device, backbone) from error


def first_pass(
    extractor: nn.Module,
    preprocessing: Preprocessing,
    pooling: str,
    device: torch.device,
    prefixes: Mapping[str, Prefix] = NO_PREFIXES,
) -> FirstPass:
    """Run two images of noise in float32.

    Raises
    ------
    torch.OutOfMemoryError
    """
    shape = (2, 3, preprocessing.image_size, preprocessing.image_size)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes = _MapSizes(extractor) if isinstance(extractor, fx.GraphModule) else None
    with torch.inference_mode():
        x = preprocessing.normalise(noise.to(device)).to(memory_format=torch.channels_last)
        outputs = extractor(x) if sizes is None else sizes.run(x)
        codes = {name: pool(maps, pooling, prefixes.get(name, Prefix())) for name, maps in outputs.items()}
    layers = {
        name: {"n_features": codes[name].shape[1], "pooling": pooling, "map_shape": list(maps.shape[1:])}
        for name, maps in outputs.items()
    }
    return FirstPass(layers, _links(codes), sizes.largest // len(noise) if sizes is not None else 0)


def _links(codes: Mapping[str, torch.Tensor]) -> dict[str, str]:
    links: dict[str, str] = {}
    names = list(codes)
    for i, name in enumerate(names):
        for later in names[i + 1 :]:
            a, b = codes[name], codes[later]
            if a.shape == b.shape and float((a - b).abs().max()) <= SAME_CODES * float(b.abs().max()):
                links[name] = later
    return {name: _last(name, links) for name in links}


def _last(name: str, links: Mapping[str, str]) -> str:
    while name in links:
        name = links[name]
    return name


class _MapSizes(fx.Interpreter):
    """Runs a traced network, and notes how many numbers its largest map has."""

    largest = 0

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        if isinstance(output, torch.Tensor):
            self.largest = max(self.largest, output.numel())
        return output
