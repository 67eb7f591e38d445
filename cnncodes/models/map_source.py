"""Finds the map that the codes of a layer are sums over: its own, that of its patches, or the one whose mean it is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cnncodes.errors import BackboneError, parameter
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.layers import INPUT
from cnncodes.networks.outputs import Output
from cnncodes.runtime.precision import reference_photos
from cnncodes.vocabulary import DEFAULT_POOLING

__all__ = ["MapSource", "source_of"]

MAP_AXES = 3  # channels, rows and columns
TOKEN_AXES = 2  # tokens and their numbers
PATCHES = "patches"  # the pooling of tokens that is a mean over places
MAX_CANDIDATES = 8  # maps, from the vector backwards, that are compared with it
TOLERANCE = 1e-4  # of the largest number of a vector


@dataclass(frozen=True)
class MapSource:
    """The map that a layer is pooled from.

    Attributes
    ----------
    layer : str
        The layer that gives the map, or tokens.
    pooling : str
    rectified : bool, default=False
        Whether a function of the network makes negative numbers 0 before they are pooled.
    n_prefix : int, default=0
        Tokens before those of the patches.
    """

    layer: str
    pooling: str
    rectified: bool = False
    n_prefix: int = 0

    def values(self, outputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the map in float64, shape (n, C, H, W)."""
        maps = outputs[self.layer].double()
        if maps.ndim == 1 + TOKEN_AXES:
            patches = maps[:, self.n_prefix :].transpose(1, 2)
            maps = patches.unflatten(2, (math.isqrt(patches.shape[2]), -1))
        return maps.relu() if self.rectified else maps


def source_of(backbone: Backbone, layer: str, pooling: str) -> MapSource:
    """Return the layer itself if it gives a map, or patches that are averaged; or else the map whose mean the layer is.

    Raises
    ------
    BackboneError
        It is none of these.
    """
    outputs = backbone.outputs()
    node = backbone.resolve(layer)
    shape, prefix = outputs[node].shape, outputs[node].prefix
    if len(shape) == MAP_AXES:
        return MapSource(layer, pooling)
    if prefix is not None and (pooling == PATCHES or (pooling == DEFAULT_POOLING and not prefix.n_tokens)):
        return MapSource(layer, PATCHES, n_prefix=prefix.n_tokens)
    before = [path for path in itertools.takewhile(lambda path: path != node, outputs) if not path.endswith(INPUT)]
    maps = [path for path in before if len(outputs[path].shape) == MAP_AXES and outputs[path].shape[0] == shape[-1]]
    if len(shape) == 1 and maps:
        nearest_maps = maps[: -MAX_CANDIDATES - 1 : -1]
        of_photos = _outputs_of_photos(backbone, [node, *nearest_maps])
        tolerance = TOLERANCE * float(of_photos[node].abs().max())
        for source in (
            MapSource(path, DEFAULT_POOLING, rectified) for path in nearest_maps for rectified in (False, True)
        ):
            if torch.allclose(source.values(of_photos).mean(dim=(2, 3)), of_photos[node].double(), 0, tolerance):
                return source
    raise BackboneError(_refusal(backbone, layer, outputs[node]))


def _refusal(backbone: Backbone, layer: str, output: Output) -> str:
    if output.prefix is not None:
        return (
            f"{layer} of {backbone.name} gives tokens, and those that are no patches are made of all places of the "
            f"image; extract the codes with {parameter('pooling', PATCHES)}, whose mean is a sum over places"
        )
    outputs = {name: backbone.outputs()[node] for name, node in backbone.aliases.items()}
    maps = [name for name, one in outputs.items() if len(one.shape) == MAP_AXES]
    patches = [name for name, one in outputs.items() if one.grid is not None]
    advice = "no layer of it has maps"
    if maps:
        advice = f"fit the model to an earlier layer: {', '.join(maps)}"
    elif patches:
        advice = f"fit it to an earlier layer, with {parameter('pooling', PATCHES)}: {', '.join(patches)}"
    return (
        f"{layer} of {backbone.name} is neither a map nor the mean of one, so that no place of the image can be named; "
        f"{advice}"
    )


def _outputs_of_photos(backbone: Backbone, layers: Sequence[str]) -> Mapping[str, torch.Tensor]:
    photos = reference_photos(backbone.preprocessing)[:2].flatten(0, -4)
    with torch.inference_mode():
        return backbone.extractor(layers)(backbone.preprocessing.normalise(photos))
