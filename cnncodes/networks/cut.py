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
from cnncodes.networks.extractor import _as_module, _trace
from cnncodes.networks.layers import INPUT, STAGES
from cnncodes.networks.tokens import NORMED, blocks_of
from cnncodes.vocabulary import PENULTIMATE, PIXELS, TRAIN_ALL, TRAIN_HEAD

__all__ = ["Cut", "CutCost", "cut_before", "find_cuts", "layer_below"]

STEM_STRIDE = 2  # of the map that enters the first stage


@dataclass(frozen=True)
class Cut:
    """A network cut in two at the map of a layer.

    Attributes
    ----------
    below : str
        Layer whose map enters the upper part: an alias or a node, or ``pixels`` where there is no lower part.
    names : frozenset of str
        All names of that layer, `below` among them.
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
    names: frozenset[str]
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
    graph = _Graph(backbone)
    top = copy.deepcopy(graph.above(below)).eval().requires_grad_(True)
    names = [name for name, _ in backbone.module.named_parameters()]
    place = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
    depths = {name: place[name] for name, _ in top.named_parameters()}
    return Cut(below, graph.names_of(below), _map_shape(backbone, below), top, depths)


@dataclass(frozen=True)
class CutCost:
    """What it costs to train a part of a network and all above it.

    Attributes
    ----------
    below : str
        Layer whose map enters it.
    n_parameters : int
        Parameters that are trained, without the head.
    bytes_per_image : int
        Size of the map in float16, of pixels as they are.
    """

    below: str
    n_parameters: int
    bytes_per_image: int


def find_cuts(backbone: Backbone) -> dict[str, CutCost]:
    """Return the stages that a network can be trained from, ``head`` and ``all``; nothing where it has no graph.

    Parameters
    ----------
    backbone : Backbone
    """
    try:
        graph = _Graph(backbone)
    except BackboneError:
        return {}
    cuts = {}
    for first in (*(name for name in backbone.aliases if name in STAGES), TRAIN_HEAD, TRAIN_ALL):
        below = layer_below(backbone, first)
        inside = graph.between(graph.start_of(below)) if graph.has(below) else None
        if inside is not None:
            n_parameters = sum(parameter.numel() for parameter in graph.parameters(inside).values())
            size = 1 if below == PIXELS else 2
            cuts[first] = CutCost(below, n_parameters, size * math.prod(_map_shape(backbone, below)))
    return cuts


def _map_shape(backbone: Backbone, below: str) -> tuple[int, ...]:
    side = backbone.preprocessing.image_size
    return (3, side, side) if below == PIXELS else backbone.outputs()[backbone.resolve(below)].shape


def layer_below(backbone: Backbone, first: str) -> str:
    """Return the layer whose map enters a part of the network, as for `cut_before`; ``pixels`` for the whole."""
    if first in (TRAIN_ALL, TRAIN_HEAD):
        return PIXELS if first == TRAIN_ALL else PENULTIMATE
    stages = list(STAGES)
    if first in backbone.aliases and first in stages:
        lower = [name for name in stages[: stages.index(first)] if name in backbone.aliases]
        if not lower:
            return _stem(backbone, backbone.resolve(first))
        node = backbone.resolve(lower[-1])
        # the next block takes what the block gives, without the norm that the layer has for its codes
        return node.removesuffix(NORMED) if node.endswith(NORMED) else lower[-1]
    node = backbone.resolve(first)
    below = node if node.endswith(INPUT) else node + INPUT
    return PENULTIMATE if below == backbone.aliases[PENULTIMATE] else backbone.resolve(below)


def _stem(backbone: Backbone, stage: str) -> str:
    """Return the smallest map of stride 2 that enters the first stage alone, or the pixels where there is none.

    The first stage of a network of tokens begins with the first block.
    """
    blocks = blocks_of(backbone.module, backbone.outputs())
    if stage.removesuffix(NORMED) in blocks:
        return blocks[0] + INPUT
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
        self.traced, self.graph, self.nodes, self.end = traced, traced.graph, traced.nodes, traced.nodes[node]
        self.modules = dict(backbone.module.named_modules())
        self.outputs = backbone.outputs()

    def has(self, below: str) -> bool:
        """Whether the graph has the output of a layer."""
        return below == PIXELS or self.backbone.resolve(below) in self.nodes

    def start_of(self, below: str) -> fx.Node:
        """Return the node of a layer."""
        if below == PIXELS:
            return next(node for node in self.graph.nodes if node.op == "placeholder")
        return self.nodes[self.backbone.resolve(below)]

    def names_of(self, below: str) -> frozenset[str]:
        """Return all names by which a layer gives the same map: aliases, nodes, and what enters the next module."""
        start, known = self.start_of(below), {**{node: node for node in self.nodes}, **self.backbone.aliases}
        return frozenset({below} | {name for name, node in known.items() if self.nodes.get(node) is start})

    def above(self, below: str) -> fx.GraphModule:
        """Return what lies above a layer as a module, which shares the parameters of the backbone."""
        inside = self.between(self.start_of(below)) if self.has(below) else None
        if inside is None:
            raise self._unclean(below)
        start = self.start_of(below)
        channels_last = below != PIXELS and self.outputs[self.backbone.resolve(below)].channels_last
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
        top = _as_module(self.backbone.module, self.traced, graph)
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
        return BackboneError(
            f"{self.backbone.name} cannot be cut at {below}: more than its map enters what is above; "
            f"it can be trained from {', '.join(find_cuts(self.backbone))}"
        )
