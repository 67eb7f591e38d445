"""The plan by which a frozen network is run: what tuning has chosen, for the runner to follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """How a frozen network is run.

    Attributes
    ----------
    devices : tuple of torch.device
        A copy of the network runs on each of them.
    computed : tuple of str
        Layers that the forward pass returns, and keys of maps (``maps/layer3``). The network is cut after the deepest.
    pooling : str
        One of `cnncodes.networks.pooling.POOLINGS`, for all layers.
    batch_size : int
        Images of each forward pass; smaller batches are padded.
    precision : {"fp32", "bf16", "fp16"}, default="fp32"
    leading : int, default=0
        How many convolutions and linear layers, counted from the first, compute in float32 in any case.
    fused : bool, default=False
        Whether convolutions also compute the activation or addition that follows them, where the processor can.
    compiled : bool, default=False
        Whether the network is compiled.
    reason : str
        Why the network is compiled, or why not.
    layers : mapping of str to dict
        ``n_features``, ``pooling``, ``map_shape`` (before pooling) and ``dtype`` of each layer, links among them.
    links : mapping of str to str
        Layers whose codes are those of another layer, which stands in for them.
    maps : mapping of str to tuple of int
        Layers whose maps are returned as they are, in float16, and the shape of a map.
    dtype : {"auto", "float16", "float32"}, default="auto"
        Type of the codes that was asked for; `layers` has the type of each layer.
    notes : tuple of str
        What a user should know about precision, memory and compilation.
    """

    devices: tuple[torch.device, ...]
    computed: tuple[str, ...]
    pooling: str
    batch_size: int
    precision: str = "fp32"
    leading: int = 0
    fused: bool = False
    compiled: bool = False
    reason: str = ""
    layers: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtype: str = "auto"
    notes: tuple[str, ...] = ()
