"""Cuts a network in two: what is computed of the map of a layer on, as a module of its own that can be trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from torch import nn

from cnncodes.errors import BackboneError
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.graph import Graph
from cnncodes.networks.layers import STAGES
from cnncodes.networks.outputs import Prefix
from cnncodes.networks.parts import Parts, layer_below
from cnncodes.vocabulary import PENULTIMATE, PIXELS, TRAIN_ALL, TRAIN_HEAD

__all__ = ["Cut", "CutCost", "Plan", "cut_at", "cut_before", "find_cuts", "plan_cut"]


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
        does nothing, and batch normalisation keeps its statistics. Its parameters are copies, and have the names that
        they have in the network; those that are trained require a gradient.
    depths : dict of str to float
        How far up in the network each trained parameter of `top` is, from 0 (the first) to 1 (the last).
    frozen_in_steps : bool
        Whether a frozen part runs in every step, because no cut separates it from what is trained.
    prefix : Prefix
        The tokens that stand before the patches in what enters the head; none unless that is tokens.
    """

    below: str
    names: frozenset[str]
    map_shape: tuple[int, ...]
    top: nn.Module = field(repr=False)
    depths: dict[str, float] = field(repr=False)
    frozen_in_steps: bool
    prefix: Prefix

    @property
    def n_parameters(self) -> int:
        """Number of parameters that are trained, without the head."""
        return sum(parameter.numel() for parameter in self.top.parameters() if parameter.requires_grad)


@dataclass(frozen=True)
class Plan:
    """Where a network is cut, and what is trained of it.

    Attributes
    ----------
    below : str
        Layer whose map enters the upper part; ``pixels`` where there is no lower part.
    trained : frozenset of str
        Names of the parameters that are trained, all of them above.
    frozen_in_steps : bool
        Whether a frozen part runs in every step, because no cut separates it from what is trained.
    graph : Graph or None
        None where the network has no graph.
    """

    below: str
    trained: frozenset[str]
    frozen_in_steps: bool
    graph: Graph | None = field(repr=False)


def plan_cut(
    backbone: Backbone,
    first: str,
    *,
    freeze: Sequence[str] = (),
    unfreeze: Sequence[str] = (),
    kept: Collection[str] = (),
) -> Plan:
    """Decide where a network is cut, without the work of `cut_before`, whose parameters these are."""
    return _plan(backbone, Graph.of(backbone), Parts(backbone), first, freeze, unfreeze, kept)


def _plan(
    backbone: Backbone,
    graph: Graph | None,
    parts: Parts,
    first: str,
    freeze: Sequence[str] = (),
    unfreeze: Sequence[str] = (),
    kept: Collection[str] = (),
) -> Plan:
    below = layer_below(backbone, first)
    above = None if graph is None else graph.parameters_above(below)
    trained = parts.above(below) if above is None else above
    trained = (trained | parts.named(unfreeze)) - parts.named(freeze)
    lowest = min((parts.first_use[name] for name in trained), default=parts.moment(PENULTIMATE))
    if graph is None:
        place = PIXELS if trained else PENULTIMATE
    else:
        places = [below] if not freeze else []
        places += [name for name in graph.outputs if parts.moment(name) <= lowest][::-1]
        kept_places = sorted((name for name in kept if parts.moment(name) <= lowest), key=parts.moment, reverse=True)
        place = next(one for one in (*kept_places, *places, PIXELS) if one == PIXELS or graph.separates(one, trained))
        place = graph.plainest_name(place)
    frozen_in_steps = place == PIXELS and min(parts.first_use.values(), default=lowest) < lowest
    return Plan(place, frozenset(trained), frozen_in_steps, graph)


def cut_before(
    backbone: Backbone,
    first: str,
    *,
    freeze: Sequence[str] = (),
    unfreeze: Sequence[str] = (),
    kept: Collection[str] = (),
) -> Cut:
    """Cut a network below what is to be trained, as high as possible.

    Where the network cannot be cut right below that, since it has no graph or more than one map enters there, it is cut
    further down, if need be at the pixels; what lies between stays frozen, as part of `Cut.top`.

    Parameters
    ----------
    backbone : Backbone
        Stays as it is.
    first : str
        ``layer1`` … ``layer4``: that stage and all above. ``head``: the head alone. ``all``: the whole network. Or the
        path of a module.
    freeze, unfreeze : sequence of str
        Stages, modules or parameters, by names or shell patterns, that are not trained after all, or trained as well;
        what both name is not trained.
    kept : collection of str
        Layers whose maps are at hand: the network is cut at one of them, if that is possible.

    Raises
    ------
    BackboneError
        There is no such part.
    """
    plan = plan_cut(backbone, first, freeze=freeze, unfreeze=unfreeze, kept=kept)
    below, graph = plan.below, plan.graph
    if graph is not None:
        top: nn.Module = copy.deepcopy(graph.above(below))
        cut_names = graph.names_of(below)
    else:
        cut_names = frozenset({below, backbone.aliases.get(below, below)})
        top = nn.Identity() if below == PENULTIMATE else backbone.up_to_head()
    top.eval().requires_grad_(False)
    names = [name for name, _ in backbone.module.named_parameters()]
    place = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
    depths = {name: place[name] for name, _ in top.named_parameters() if name in plan.trained}
    for name in depths:
        top.get_parameter(name).requires_grad_(True)
    return Cut(below, cut_names, _map_shape(backbone, below), top, depths, plan.frozen_in_steps, _prefix(backbone))


def cut_at(backbone: Backbone, below: str) -> Cut:
    """Cut a network at the map of a layer, to run what is above it: nothing of that is trained.

    Parameters
    ----------
    backbone : Backbone
    below : str
        An alias or a node, or ``pixels`` for a cut below the whole network.

    Raises
    ------
    BackboneError
        There is no such layer, or the network cannot be cut there.
    """
    if (graph := Graph.of(backbone)) is None:
        raise BackboneError(f"{backbone.name} cannot be cut at {below}: it cannot be traced into a graph")
    top = graph.above(below).eval().requires_grad_(False)
    return Cut(below, graph.names_of(below), _map_shape(backbone, below), top, {}, False, _prefix(backbone))


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
    """Return what it costs to train a network from each of its stages, from ``head`` and ``all``.

    Parameters
    ----------
    backbone : Backbone
    """
    graph, parts = Graph.of(backbone), Parts(backbone)
    sizes = {name: parameter.numel() for name, parameter in backbone.module.named_parameters()}
    cuts = {}
    for first in (*(name for name in backbone.aliases if name in STAGES), TRAIN_HEAD, TRAIN_ALL):
        plan = _plan(backbone, graph, parts, first)
        size = 1 if plan.below == PIXELS else 2
        n_bytes = size * math.prod(_map_shape(backbone, plan.below))
        cuts[first] = CutCost(plan.below, sum(sizes[name] for name in plan.trained), n_bytes)
    return cuts


def _prefix(backbone: Backbone) -> Prefix:
    return backbone.outputs()[backbone.resolve(PENULTIMATE)].prefix or Prefix()


def _map_shape(backbone: Backbone, below: str) -> tuple[int, ...]:
    side = backbone.preprocessing.image_size
    return (3, side, side) if below == PIXELS else backbone.outputs()[backbone.resolve(below)].shape
