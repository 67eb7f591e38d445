"""Cuts a network in two: what is computed of the map of a layer on, as a module of its own that can be trained."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import fx, nn

from cnncodes.errors import BackboneError
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.extractor import _GraphExtractor, _trace
from cnncodes.networks.layers import INPUT, STAGES
from cnncodes.vocabulary import PENULTIMATE, PIXELS, TRAIN_ALL, TRAIN_HEAD

__all__ = ["Cut", "cut_before", "find_cuts", "layer_below"]

STEM_STRIDE = 2  # of the map that enters the first stage


@dataclass(frozen=True)
class Cut:
    """A network cut in two at the map of a layer.

    Attributes
    ----------
    below : str
        Layer whose map enters the upper part: an alias or a node, or ``pixels`` where there is no lower part.
    map_shape : tuple of int
        Shape of that map for one image: (C, H, W), (tokens, D) or (D,).
    top : Module
        From a batch of maps, or of normalised pixels, to what enters the head of the network. In eval mode: dropout
        does nothing, and batch normalisation keeps its statistics. Its parameters are copies that can be trained, and
        have the names that they have in the network.
    depths : dict of str to float
        How far up in the network each parameter of `top` is, from 0 (the first) to 1 (the last).
    """

    below: str
    map_shape: tuple[int, ...]
    top: nn.Module = field(repr=False)
    depths: dict[str, float] = field(repr=False)

    @property
    def n_parameters(self) -> int:
        """Number of parameters above the cut, without the head."""
        return sum(parameter.numel() for parameter in self.top.parameters())


def cut_before(backbone: Backbone, first: str) -> Cut:
    """Cut a network below the first part that is to be trained.

    Parameters
    ----------
    backbone : Backbone
        Stays as it is.
    first : str
        ``layer1`` … ``layer4``: that stage and all above. ``head``: the head alone. ``all``: the whole network. Or the
        path of a module.

    Raises
    ------
    BackboneError
        There is no such part, or the network cannot be cut there.
    """
    below = layer_below(backbone, first)
    side = backbone.preprocessing.image_size
    shape = (3, side, side) if below == PIXELS else backbone.outputs()[backbone.resolve(below)].shape
    top = copy.deepcopy(_Graph(backbone).above(below)).eval().requires_grad_(True)
    names = [name for name, _ in backbone.module.named_parameters()]
    place = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
    return Cut(below, shape, top, {name: place[name] for name, _ in top.named_parameters()})


def find_cuts(backbone: Backbone) -> dict[str, int]:
    """Return the layers at which the network can be cut, each with the number of parameters above it, head included.

    Parameters
    ----------
    backbone : Backbone
    """
    try:
        graph = _Graph(backbone)
    except BackboneError:
        return {}
    names = {node: alias for alias, node in backbone.aliases.items()}
    head = sum(parameter.numel() for parameter in backbone.module.get_submodule(backbone.head).parameters())
    cuts = {}
    for path in backbone.outputs():
        if path in graph.nodes and (inside := graph.between(graph.nodes[path])) is not None:
            above = graph.parameters(inside).values()
            cuts[names.get(path, path)] = head + sum(parameter.numel() for parameter in above)
    return cuts


def layer_below(backbone: Backbone, first: str) -> str:
    """Return the layer whose map enters a part of the network, as for `cut_before`; ``pixels`` for the whole."""
    if first in (TRAIN_ALL, TRAIN_HEAD):
        return PIXELS if first == TRAIN_ALL else PENULTIMATE
    stages = list(STAGES)
    if first in backbone.aliases and first in stages:
        lower = [name for name in stages[: stages.index(first)] if name in backbone.aliases]
        return lower[-1] if lower else _stem(backbone, backbone.resolve(first))
    node = backbone.resolve(first)
    below = node if node.endswith(INPUT) else node + INPUT
    return PENULTIMATE if below == backbone.aliases[PENULTIMATE] else backbone.resolve(below)


def _stem(backbone: Backbone, stage: str) -> str:
    """Return the smallest map of stride 2 that enters the first stage alone, or the pixels where there is none."""
    graph, outputs = _Graph(backbone), backbone.outputs()
    lower = itertools.takewhile(lambda path: path != stage, outputs)
    stem = [path for path in lower if outputs[path].stride == STEM_STRIDE and path in graph.nodes and ":" not in path]
    clean = [path for path in stem if graph.between(graph.nodes[path]) is not None]
    return min(reversed(clean), key=lambda path: math.prod(outputs[path].shape), default=PIXELS)


class _Graph:
    """The traced graph of a network up to its head, and what of it lies above a node."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        traced, node = _trace(backbone.module), backbone.aliases[PENULTIMATE]
        if traced is None or node not in traced.nodes:
            raise BackboneError(
                f"{backbone.name} cannot be traced into a graph, and so not be cut in two; choose another network"
            )
        self.graph, self.nodes, self.end = traced.graph, traced.nodes, traced.nodes[node]
        self.modules = dict(backbone.module.named_modules())
        self.outputs = backbone.outputs()

    def above(self, below: str) -> fx.GraphModule:
        """Return what lies above a layer as a module, which shares the parameters of the backbone."""
        start, channels_last = next(node for node in self.graph.nodes if node.op == "placeholder"), False
        if below != PIXELS:
            path = self.backbone.resolve(below)
            if path not in self.nodes:
                raise self._unclean(below)
            start, channels_last = self.nodes[path], self.outputs[path].channels_last
        inside = self.between(start)
        if inside is None:
            raise self._unclean(below)
        graph = fx.Graph()
        maps = graph.placeholder("maps")
        copies = {start: graph.call_method("permute", (maps, 0, 2, 3, 1)) if channels_last else maps}
        for node in self.graph.nodes:
            if node in inside:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        last = copies[self.end]
        if self.outputs[self.backbone.aliases[PENULTIMATE]].channels_last:
            last = graph.call_method("permute", (last, 0, 3, 1, 2))
        graph.output(last)
        top = _GraphExtractor(self.backbone.module, graph)
        top.delete_all_unused_submodules()
        return top

    def between(self, start: fx.Node) -> set[fx.Node] | None:
        """Return the nodes after `start` that lead to the head; None if anything else of below enters there."""
        inside: set[fx.Node] = set()
        waiting = [self.end]
        while waiting:
            node = waiting.pop()
            if node is start or node in inside:
                continue
            if node.op == "placeholder":
                return None
            inside.add(node)
            waiting += node.all_input_nodes
        outside = [node for node in self.graph.nodes if node not in inside]
        above = self.parameters(inside)
        return None if above.keys() & self.parameters(outside).keys() else inside

    def parameters(self, nodes: Iterable[fx.Node]) -> dict[int, nn.Parameter]:
        """Return the parameters that some nodes use, by their identity."""
        found: dict[int, nn.Parameter] = {}
        for node in nodes:
            if node.op == "call_module":
                found |= {id(one): one for one in self.modules[str(node.target)].parameters()}
            elif node.op == "get_attr":
                path, _, name = str(node.target).rpartition(".")
                if isinstance(value := getattr(self.modules.get(path), name, None), nn.Parameter):
                    found[id(value)] = value
        return found

    def _unclean(self, below: str) -> BackboneError:
        places = ", ".join(name for name in find_cuts(self.backbone) if name in self.backbone.aliases)
        return BackboneError(
            f"{self.backbone.name} cannot be cut at {below}: more than its map enters what is above; "
            f"it can be at {places}"
        )
