"""The traced graph of a network up to its head, and what of it lies above the map of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Set

from torch import fx, nn

from cnncodes.networks.backbone import Backbone
from cnncodes.networks.extractor import _as_module, _trace
from cnncodes.networks.layers import INPUT
from cnncodes.networks.tracing import Tracer
from cnncodes.vocabulary import PENULTIMATE, PIXELS

__all__ = ["Graph"]


class Graph:
    """The traced graph of a network up to its head, and what of it lies above a node."""

    def __init__(self, backbone: Backbone, traced: Tracer) -> None:
        self.backbone = backbone
        self.traced, self.graph, self.nodes = traced, traced.graph, traced.nodes
        self.end = traced.nodes[backbone.aliases[PENULTIMATE]]
        self.modules = dict(backbone.module.named_modules())
        self.outputs = backbone.outputs()

    @classmethod
    def of(cls, backbone: Backbone) -> Graph | None:
        """Return the graph of a network; None where it cannot be traced."""
        traced = _trace(backbone.module)
        return cls(backbone, traced) if traced is not None and backbone.aliases[PENULTIMATE] in traced.nodes else None

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

    def plainest_name(self, below: str) -> str:
        """Return the name by which users know a layer: of an alias, a module, or what enters one."""
        if self.start_of(below) is self.start_of(PIXELS):
            return PIXELS
        names = self.names_of(below)
        modules = [name for name in self.outputs if name in names and not name.endswith(INPUT)]
        return next((name for name in (*self.backbone.aliases, *modules[::-1]) if name in names), below)

    def above(self, below: str) -> fx.GraphModule:
        """Return what lies above a layer where the network can be cut, as a module that shares its parameters."""
        start = self.start_of(below)
        inside = self.between(start) or set()
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

    def parameters_above(self, below: str) -> set[str] | None:
        """Return the names of the parameters above a layer; None where the network cannot be cut there."""
        inside = self.between(self.start_of(below)) if self.has(below) else None
        if inside is None:
            return None
        above = self.parameters(inside)
        return {name for name, one in self.backbone.module.named_parameters() if id(one) in above}

    def separates(self, below: str, trained: Set[str]) -> bool:
        """Whether the network can be cut at a layer so that all that is trained is above."""
        above = self.parameters_above(below)
        return above is not None and trained <= above

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
