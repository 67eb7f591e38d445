"""Extractors: a network cut after the deepest of the wanted layers, as a traced graph or with hooks."""

from __future__ import annotations

import copy
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import new_class

import torch
from torch import fx, nn
from torch.fx.graph import inplace_methods

from cnncodes.networks.layers import INPUT
from cnncodes.networks.tracing import Tracer

__all__ = ["Tap", "build_extractor", "network_up_to"]

logger = logging.getLogger(__name__)

IN_PLACE_OPERATORS = {*inplace_methods, "setitem"}


@dataclass(frozen=True)
class Tap:
    """Where a wanted layer is read: its node, whether its map has the channels last, and the norm that is applied."""

    node: str
    channels_last: bool
    norm: str | None = None


class _Frozen(nn.Module):
    """A module that stays in eval mode, whatever is asked."""

    def train(self, mode: bool = True) -> _Frozen:
        return super().train(False)


class _GraphExtractor(_Frozen, fx.GraphModule):
    """A traced network whose graph ends at the deepest wanted layer."""


class _HookExtractor(_Frozen):
    """A network that is run with hooks and stopped at the deepest wanted layer; by several threads at a time, too."""

    def __init__(self, network: nn.Module, taps: Mapping[str, Tap], calls: Mapping[str, int]) -> None:
        super().__init__()
        self.network = network
        self.taps = dict(taps)
        self.calls = {node: calls.get(node.removesuffix(INPUT), 1) for node in {tap.node for tap in taps.values()}}
        for node in self.calls:
            module = network.get_submodule(node.removesuffix(INPUT))
            hooks = module._forward_pre_hooks if node.endswith(INPUT) else module._forward_hooks
            if any(isinstance(hook, _Report) and hook.node == node for hook in hooks.values()):
                continue  # another extractor of the same network has registered it
            if node.endswith(INPUT):
                module.register_forward_pre_hook(_Report(node))
            else:
                module.register_forward_hook(_Report(node))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map a batch to the wanted layers, copied: a later operation may work in place."""
        return _reach(self.network, self.network, x, self.taps, self.calls)


class _Pass:
    """One pass of one thread: the wanted nodes that it has reached."""

    def __init__(self, calls: Mapping[str, int]) -> None:
        self.missing = Counter(calls)
        self.kept: dict[str, torch.Tensor] = {}

    def reach(self, node: str, value: torch.Tensor) -> None:
        if node not in self.missing:  # is wanted by another extractor only
            return
        self.kept[node] = value.clone()
        self.missing[node] -= 1
        if max(self.missing.values()) <= 0:
            raise _DeepestReachedError


class _Passes(threading.local):
    """The pass that is under way in this thread: hooks belong to the network, which the threads share."""

    current: _Pass | None = None


_passes = _Passes()


class _Report:
    """A hook, before or after a module: tells the pass of its thread what enters or leaves."""

    def __init__(self, node: str) -> None:
        self.node = node

    def __call__(self, module: nn.Module, args: tuple[torch.Tensor, ...], *output: torch.Tensor) -> None:
        if _passes.current is not None:
            _passes.current.reach(self.node, output[0] if output else args[0])


class _DeepestReachedError(Exception):
    """All wanted layers are there: nothing more needs to be computed."""


def _reach(
    network: nn.Module,
    run: Callable[[torch.Tensor], object],
    x: torch.Tensor,
    taps: Mapping[str, Tap],
    calls: Mapping[str, int],
) -> dict[str, torch.Tensor]:
    """Run a network that reports what it reaches, until it has reached all of the wanted layers."""
    reached = _passes.current = _Pass(calls)
    try:
        run(x)
    except _DeepestReachedError:
        pass
    finally:
        _passes.current = None
    return {name: _read(network, tap, reached.kept[tap.node]) for name, tap in taps.items()}


def _read(network: nn.Module, tap: Tap, x: torch.Tensor) -> torch.Tensor:
    if tap.norm is not None:
        x = network.get_submodule(tap.norm)(x)
    return x.permute(0, 3, 1, 2) if tap.channels_last else x


def network_up_to(network: nn.Module, tap: Tap, calls: Mapping[str, int]) -> nn.Module:
    """Return a copy of a network that ends at a layer, for networks that have no graph.

    Parameters
    ----------
    network : Module
        In eval mode, none of its modules in place.
    tap : Tap
    calls : mapping of str to int
        As for `build_extractor`.

    Returns
    -------
    Module
        Maps a batch to what `tap` names. Its parameters have the names that they have in the network.
    """
    network = copy.deepcopy(network)
    wanted = _HookExtractor(network, {tap.node: tap}, calls).calls
    kind = type(network)

    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return _reach(module, lambda x: kind.forward(module, x), x, {tap.node: tap}, wanted)[tap.node]

    network.__class__ = new_class(kind.__name__, (kind,), exec_body=lambda names: names.update(forward=forward))
    return network


def build_extractor(network: nn.Module, taps: Mapping[str, Tap], calls: Mapping[str, int]) -> nn.Module:
    """Cut a network after the deepest of the wanted layers.

    Parameters
    ----------
    network : Module
        In eval mode, none of its modules in place. They are shared, not copied.
    taps : mapping of str to Tap
        Wanted layers, by the names of the result.
    calls : mapping of str to int
        How often each module is called in one pass (`Survey.calls`).

    Returns
    -------
    Module
        Maps a float batch (n, 3, S, S) to a dict of (n, C, H, W), (n, tokens, D) or (n, D) tensors. A
        `torch.fx.GraphModule` where the network can be traced, otherwise the network with hooks. Stays in eval mode.
    """
    traced = _trace(network)
    if traced is None or any(tap.node not in traced.nodes for tap in taps.values()):
        return _HookExtractor(network, taps, calls).eval()
    return _cut(network, traced, taps).eval()


def _trace(network: nn.Module) -> Tracer | None:
    """Trace the network into a graph without in-place operations; None where that cannot be done."""
    tracer = Tracer()
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    try:
        tracer.graph = tracer.trace(copy.deepcopy(network, tensors))  # a copy: it may keep the proxies that it is given
    except Exception as error:  # a network may do anything with the proxies it is given
        logger.info("%s cannot be traced (%s); it runs with hooks", type(network).__name__, error)
        return None
    for node in tracer.graph.nodes:
        _make_functional(node)
    return None if any(_is_in_place(node) for node in tracer.graph.nodes) else tracer


def _make_functional(node: fx.Node) -> None:
    """Turn ``F.relu(x, inplace=True)`` into ``F.relu(x, inplace=False)``."""
    if node.op == "call_function" and "inplace" in node.kwargs:  # torch's functions hand it on by name
        node.update_kwarg("inplace", False)


def _is_in_place(node: fx.Node) -> bool:
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name in IN_PLACE_OPERATORS or node.kwargs.get("out") is not None


def _cut(network: nn.Module, traced: Tracer, taps: Mapping[str, Tap]) -> fx.GraphModule:
    graph = traced.graph
    order = {node: i for i, node in enumerate(graph.nodes)}
    ends = {name: traced.nodes[tap.node] for name, tap in taps.items()}
    deepest = max(order[node] for node in ends.values())
    _erase(graph, [node for node, i in order.items() if i > deepest and node.op != "placeholder"])
    for name, tap in taps.items():
        if tap.norm is not None:
            ends[name] = graph.call_module(tap.norm, (ends[name],))
        if tap.channels_last:
            ends[name] = graph.call_method("permute", (ends[name], 0, 3, 1, 2))
    graph.output(ends)
    extractor = _as_module(network, traced, graph)
    extractor.graph.eliminate_dead_code()
    extractor.delete_all_unused_submodules()
    extractor.recompile()
    return extractor


def _as_module(network: nn.Module, traced: Tracer, graph: fx.Graph) -> _GraphExtractor:
    """Return a graph that was traced from a network as a module, which shares the modules of the network."""
    root = copy.copy(network)  # takes the constants, which the network has no need of
    vars(root).update(traced.constants)
    return _GraphExtractor(root, graph)


def _erase(graph: fx.Graph, nodes: Iterable[fx.Node]) -> None:
    for node in reversed(list(nodes)):  # a node is erased after its users
        graph.erase_node(node)
