"""The parameters of the parts of a network: by names and shell patterns, and by the order in which it uses them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from fnmatch import fnmatchcase

from cnncodes.errors import BackboneError, nearest
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.graph import Graph
from cnncodes.networks.layers import INPUT, STAGES
from cnncodes.networks.tokens import NORMED, blocks_of
from cnncodes.vocabulary import PENULTIMATE, PIXELS, TRAIN_ALL, TRAIN_HEAD

__all__ = ["Parts", "layer_below"]

STEM_STRIDE = 2  # of the map that enters the first stage


class Parts:
    """The parameters below the head of a network, and when each is first used.

    A parameter is used when the module that has it is entered, or, if that is never called, the one around it. What is
    used below a layer and above it counts as below.

    Parameters
    ----------
    backbone : Backbone

    Attributes
    ----------
    first_use : dict of str to int
        Moment at which each parameter is first used, as `Backbone.order` counts them.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.order = backbone.order()
        moments: dict[int, int] = {}
        for path, module in backbone.module.named_modules():
            entered = self._entered(path)
            for parameter in module.parameters(recurse=False):
                moments[id(parameter)] = min(entered, moments.get(id(parameter), entered))
        end = self.moment(PENULTIMATE)
        named = list(backbone.module.named_parameters())
        self.first_use = {name: moments[id(one)] for name, one in named if moments[id(one)] < end}

    def moment(self, layer: str) -> int:
        """Return when the map of a layer is there: what is first used from then on lies above it."""
        return 0 if layer == PIXELS else self.order[self.backbone.resolve(layer).removesuffix(NORMED)]

    def above(self, layer: str) -> set[str]:
        """Return the parameters that are first used when the map of a layer is there."""
        moment = self.moment(layer)
        return {name for name, use in self.first_use.items() if use >= moment}

    def named(self, patterns: Iterable[str]) -> set[str]:
        """Return the parameters of the stages, modules or parameters that names or shell patterns stand for.

        Raises
        ------
        BackboneError
            A name stands for nothing that could be trained; the message names the nearest ones.
        """
        return {name for pattern in patterns for name in self._named(pattern)}

    def _named(self, pattern: str) -> set[str]:
        if pattern in STAGES and pattern in self.backbone.aliases:
            end = self.moment(pattern)
            return {name for name in self.above(layer_below(self.backbone, pattern)) if self.first_use[name] < end}
        modules = [path for path, _ in self.backbone.module.named_modules() if path]
        inside = tuple(f"{path}." for path in modules if fnmatchcase(path, pattern))
        names = {name for name in self.first_use if fnmatchcase(name, pattern) or name.startswith(inside)}
        if names:
            return names
        stages = [name for name in self.backbone.aliases if name in STAGES]
        why = f"has no part {pattern!r}.{nearest(pattern, [*stages, *modules])}"
        if inside:
            why = f"has nothing to train in {pattern!r}: it has no parameters, or is the head, where the probe is now."
        raise BackboneError(
            f"{self.backbone.name} {why} There are {''.join(f'{name}, ' for name in stages)}module paths such as "
            f"{modules[len(modules) // 2]}, and patterns of them; `cnncodes layers {self.backbone.name}` lists all"
        )

    def _entered(self, path: str) -> int:
        while path and path + INPUT not in self.order:
            path = path.rpartition(".")[0]
        return self.order[path + INPUT] if path else 0


def layer_below(backbone: Backbone, first: str) -> str:
    """Return the layer whose map enters a part of the network; ``pixels`` for the whole.

    Parameters
    ----------
    backbone : Backbone
    first : str
        As for `cnncodes.networks.cut.cut_before`.

    Raises
    ------
    BackboneError
        There is no such part.
    """
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
    graph, outputs = Graph.of(backbone), backbone.outputs()
    lower = itertools.takewhile(lambda path: path != stage, outputs)
    stem = [path for path in lower if outputs[path].stride == STEM_STRIDE and ":" not in path]
    if graph is not None:
        stem = [path for path in stem if graph.parameters_above(path) is not None]
    return min(reversed(stem), key=lambda path: math.prod(outputs[path].shape), default=PIXELS)
