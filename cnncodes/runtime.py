"""Makes a frozen network fast on this device: eval mode, folded batch normalisation, channels-last, precision."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cnncodes.errors import BackboneError, nearest

if TYPE_CHECKING:
    from cnncodes.backbones import Backbone

__all__ = ["POOLINGS", "PRECISIONS", "FrozenNetwork", "pool", "resolve_device"]

logger = logging.getLogger(__name__)

GEM_POWER = 3.0  # Radenović, Tolias, Chum 2018: the generalised mean lies between the average (1) and the maximum (∞)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # (n, C, H, W) -> (n, n_features)
    "avg": lambda maps: maps.mean(dim=(2, 3)),
    "max": lambda maps: maps.amax(dim=(2, 3)),
    "gem": lambda maps: maps.clamp(min=1e-6).pow(GEM_POWER).mean(dim=(2, 3)).pow(1 / GEM_POWER),
    "grid2": lambda maps: nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1),
    "flatten": lambda maps: maps.flatten(1),
}
BATCH_SIZES = {"cpu": 8, "cuda": 64, "mps": 32}  # on a CPU a batch whose maps stay in the cache is the fastest
SAME_CODES = 1e-5  # two layers hold the same codes when they differ by no more than this, relative to the largest


def pool(x: torch.Tensor, pooling: str) -> torch.Tensor:
    """Turn the output of a layer into one float32 vector an image.

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


def resolve_device(device: str) -> torch.device:
    """Return the torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; never another than was named.

    Raises
    ------
    BackboneError
        The device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(f"device {device!r} cannot be used here ({reason}); try --device auto") from error


class FrozenNetwork:
    """A backbone, cut after its deepest wanted layer, that turns a batch of pixels into pooled codes.

    The code of an image depends on that image alone: each batch is padded to `batch_size`, so the same kernels run
    whatever the other images are.

    Parameters
    ----------
    backbone : Backbone
    layers : sequence of str
    pooling : str
        One of `POOLINGS`, for all layers.
    device : str
    precision : {"auto", "fp32", "bf16", "fp16"}
    batch_size : int, optional
        8 on a CPU, 64 on a GPU.

    Attributes
    ----------
    layers : dict of str to dict
        ``n_features``, ``pooling`` and ``map_shape`` (before pooling) of each layer.
    links : dict of str to str
        Layers whose codes are those of another layer, which stands in for them.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[str],
        pooling: str = "avg",
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        if pooling not in POOLINGS:
            raise BackboneError(f"no pooling {pooling!r}.{nearest(pooling, POOLINGS)} There are {', '.join(POOLINGS)}")
        self.backbone = backbone
        self.pooling = pooling
        self.device = resolve_device(device)
        self.precision = "fp32" if precision == "auto" else precision
        if self.precision not in PRECISIONS:
            raise BackboneError(f"no precision {precision!r}; there are auto, {', '.join(PRECISIONS)}")
        self.batch_size = batch_size or BATCH_SIZES[self.device.type]
        self._load(layers)
        self.layers, self.links = self._survey()  # in float32: rounding must not tell equal layers apart
        self._wanted = [name for name in self.layers if name not in self.links]
        self._module.to(dtype=PRECISIONS[self.precision])

    def restrict(self, layers: Sequence[str]) -> None:
        """Compute only these layers from now on, and nothing behind the deepest of them."""
        if layers and set(layers) != set(self._wanted):
            self._load(layers)
            self._wanted = list(layers)
            self._module.to(dtype=PRECISIONS[self.precision])

    def _load(self, layers: Sequence[str]) -> None:
        extractor, self.folded = _fold(self.backbone.extractor(layers))
        self._module = extractor.to(self.device).to(memory_format=torch.channels_last)

    def __call__(self, pixels: torch.Tensor) -> dict[str, np.ndarray]:
        """Compute the codes of up to `batch_size` images.

        Parameters
        ----------
        pixels : Tensor of uint8, shape (n, 3, S, S)

        Returns
        -------
        dict of str to ndarray of float32, shape (n, n_features)
            One entry for each layer that is no link, or that `restrict` left.
        """
        n = len(pixels)
        batch = pixels.new_zeros((self.batch_size, *pixels.shape[1:]))
        batch[:n] = pixels
        with torch.inference_mode():
            outputs = self._forward(batch)
            return {name: pool(outputs[name], self.pooling)[:n].cpu().numpy() for name in self._wanted}

    def describe(self) -> dict[str, Any]:
        """Return what decides the bits of the codes beside the weights, ready for JSON."""
        return {
            "layers": self.layers,
            "links": self.links,
            "pooling": self.pooling,
            "precision": self.precision,
            "runtime": {
                "device": self.device.type,
                "batch_size": self.batch_size,
                "memory_format": "channels_last",
                "folded": self.folded,
            },
        }

    def _forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.backbone.preprocessing.normalise(batch.to(self.device, non_blocking=True))  # (n, 3, S, S)
        dtype = next(self._module.parameters()).dtype
        return self._module(x.to(dtype, memory_format=torch.channels_last))

    def _survey(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Run one batch of noise in float32: code lengths, and which layers hold the same codes."""
        size = self.backbone.preprocessing.image_size
        noise = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            outputs = self._forward(noise)
            codes = {name: pool(maps, self.pooling) for name, maps in outputs.items()}
        layers = {
            name: {"n_features": codes[name].shape[1], "pooling": self.pooling, "map_shape": list(maps.shape[1:])}
            for name, maps in outputs.items()
        }
        links: dict[str, str] = {}
        names = list(codes)
        for i, name in enumerate(names):
            for later in names[i + 1 :]:
                a, b = codes[name], codes[later]
                if a.shape == b.shape and float((a - b).abs().max()) <= SAME_CODES * float(b.abs().max()):
                    links[name] = later
        return layers, {name: _last(name, links) for name in links}


def _last(name: str, links: dict[str, str]) -> str:
    while name in links:
        name = links[name]
    return name


def _fold(extractor: nn.Module) -> tuple[nn.Module, bool]:
    """Copy it, with each batch normalisation folded into the convolution before it where the traced graph allows."""
    if isinstance(extractor, torch.fx.GraphModule):
        from torch.fx.experimental.optimization import fuse

        try:
            return fuse(extractor, no_trace=True).eval(), True
        except Exception as error:  # it refuses what it does not know in many ways
            logger.info("batch normalisation is not folded (%s)", error)
    return copy.deepcopy(extractor).eval(), False
