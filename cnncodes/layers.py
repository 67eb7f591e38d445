"""The layers of a network: their names, the shapes they give, and a network cut after the deepest wanted one.

A *node* is what a layer name resolves to: a module path (``features.13``: the output of that module), or a module path
followed by ``:input`` (``fc:input``: what enters it).
"""

from __future__ import annotations

import inspect
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

__all__ = ["STAGES", "LayerInfo", "Survey", "Tap", "build_extractor", "find_stages", "survey"]

logger = logging.getLogger(__name__)

INPUT = ":input"
STAGES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}  # alias: stride in pixels
# Their maps are no feature maps of their own: the size does not follow the image's, or nothing is computed.
NOT_FEATURE_MAPS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout2d, nn.Identity)
IN_PLACE_OPERATORS = {"iadd", "iand", "ifloordiv", "ilshift", "imod", "imul", "imatmul", "ior", "ipow", "irshift"} | {
    "isub",
    "itruediv",
    "ixor",
    "setitem",
}
SURVEY_BATCH = 2  # distinguishes a batch axis from an axis of length 1


@dataclass(frozen=True)
class LayerInfo:
    """One row of the table of layers.

    Attributes
    ----------
    name : str
        What to ask for: the alias where there is one, otherwise the node.
    path : str
        The node: a module path, or ``PATH:input`` for what enters that module.
    map_shape : tuple of int
        ``(C, H, W)`` of a map, ``(tokens, D)`` of a sequence, ``(D,)`` of a vector.
    stride : int or None
        Pixels of the image per step of the map; nominal (a power of two) where the division leaves a rest.
    n_features : int
        Length of the code after average pooling.
    aliases : tuple of str
    """

    name: str
    path: str
    map_shape: tuple[int, ...]
    stride: int | None
    n_features: int
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """What one node gives for one image: its shape in (C, H, W) order, and whether the network has (H, W, C)."""

    shape: tuple[int, ...]
    channels_last: bool
    stride: int | None


@dataclass(frozen=True)
class Survey:
    """What every node gives at one image size, in the order of computation; and how often each module is called."""

    image_size: int
    outputs: Mapping[str, Output]
    calls: Mapping[str, int]

    def table(self, aliases: Mapping[str, str]) -> list[LayerInfo]:
        """Return a row for the output of each module, and for each node that has an alias."""
        names: dict[str, list[str]] = {}
        for alias, node in aliases.items():
            names.setdefault(node, []).append(alias)
        return [
            LayerInfo(
                name=names.get(node, [node])[0],
                path=node,
                map_shape=output.shape,
                stride=output.stride,
                n_features=output.shape[-1] if len(output.shape) == 2 else output.shape[0],
                aliases=tuple(names.get(node, ())),
            )
            for node, output in self.outputs.items()
            if not node.endswith(INPUT) or node in names
        ]


def survey(network: nn.Module, image_size: int) -> Survey:
    """Run the network once on nothing (meta tensors; zeros where a network cannot) and note what every module gives.

    Raises
    ------
    RuntimeError, ValueError, AssertionError and others
        Whatever the network raises for images of this size.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()

    def note(node: str, value: Any) -> None:
        shapes.pop(node, None)  # the last call counts, and orders
        if isinstance(value, torch.Tensor) and value.ndim in (2, 3, 4) and value.shape[0] == SURVEY_BATCH:
            shapes[node] = tuple(value.shape[1:])

    def before(path: str) -> Callable[..., None]:
        return lambda module, args: note(path + INPUT, args[0] if args else None)

    def after(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            calls[path] += 1
            note(path, output)

        return hook

    modules = [(path, module) for path, module in network.named_modules() if path]
    handles = [module.register_forward_pre_hook(before(path)) for path, module in modules]
    handles += [module.register_forward_hook(after(path)) for path, module in modules]
    try:
        _run_on_nothing(network, image_size)
    except Exception:
        shapes.clear()
        calls.clear()
        with torch.inference_mode():
            network(torch.zeros(SURVEY_BATCH, 3, image_size, image_size))
    finally:
        for handle in handles:
            handle.remove()
    outputs = {node: _output(shape, image_size) for node, shape in shapes.items()}
    return Survey(image_size, {node: output for node, output in outputs.items() if output is not None}, calls)


def _run_on_nothing(network: nn.Module, image_size: int) -> None:
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    meta = {name: tensor.to("meta") for name, tensor in tensors}
    x = torch.empty(SURVEY_BATCH, 3, image_size, image_size, device="meta")
    with torch.no_grad():
        torch.func.functional_call(network, meta, (x,))


def _output(shape: tuple[int, ...], image_size: int) -> Output | None:
    """Read the axes of one image's output. Images are square, so the two equal axes of a map are H and W."""
    if len(shape) < 3:
        return Output(shape, False, None)
    a, b, c = shape
    if b == c:
        return Output((a, b, c), False, _stride(image_size, b))
    if a == b:
        return Output((c, a, b), True, _stride(image_size, a))
    return None  # windows of a map, heads of an attention: nothing to pool over


def _stride(image_size: int, side: int) -> int | None:
    if side == 1 and image_size > 1:
        return None
    if image_size % side == 0:
        return image_size // side
    return 2 ** max(0, round(math.log2(image_size / side)))


def find_stages(network: nn.Module, found: Survey, head: str) -> dict[str, str]:
    """Find the last feature map at stride 4, 8, 16 and 32: the nodes of `STAGES`.

    A module of the network that has the very name of a stage is that stage. A map inside a module that doubles the
    stride belongs to the next stage, which is what ends this one. A network whose maps start at a larger stride than
    4 (a vision transformer) has no stages.
    """
    modules = dict(network.named_modules())
    order = list(found.outputs)
    before_head = order[: order.index(head + INPUT)] if head + INPUT in found.outputs else order
    last: dict[int, str] = {}
    for node in before_head:
        stride = found.outputs[node].stride
        if stride is None or node.endswith(INPUT) or isinstance(modules[node], NOT_FEATURE_MAPS):
            continue
        if not any(_doubles(found, ancestor, stride) for ancestor in _ancestors(node)):
            last[stride] = node
    stages = {name: last[stride] for name, stride in STAGES.items() if stride in last} if 4 in last else {}
    named = {name: name for name in STAGES if name in found.outputs}
    return {name: (stages | named)[name] for name in STAGES if name in stages | named}


def _ancestors(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _doubles(found: Survey, path: str, stride: int) -> bool:
    before, after = found.outputs.get(path + INPUT), found.outputs.get(path)
    return before is not None and after is not None and before.stride == stride and after.stride == 2 * stride


# ---------------------------------------------------------------------------------------------------- extractors


@dataclass(frozen=True)
class Tap:
    """Where a wanted layer is read: its node, and whether its map has the channels last."""

    node: str
    channels_last: bool


class _Frozen(nn.Module):
    """A module that stays in eval mode, whatever is asked."""

    def train(self, mode: bool = True) -> _Frozen:
        return super().train(False)


class _GraphExtractor(_Frozen, fx.GraphModule):
    """A traced network whose graph ends at the deepest wanted layer."""


class _HookExtractor(_Frozen):
    """A network that is run with hooks and stopped at the deepest wanted layer."""

    def __init__(self, network: nn.Module, taps: Mapping[str, Tap], calls: Mapping[str, int]) -> None:
        super().__init__()
        self.network = network
        self.taps = dict(taps)
        self.calls = dict(calls)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map a batch to the wanted layers, copied: a later operation may work in place."""
        kept: dict[str, torch.Tensor] = {}
        wanted = {tap.node for tap in self.taps.values()}
        seen: Counter[str] = Counter()

        def keep(node: str, value: torch.Tensor) -> None:
            seen[node] += 1
            kept[node] = value.clone()
            if all(seen[other] >= self.calls.get(other.removesuffix(INPUT), 1) for other in wanted):
                raise _DeepestReachedError

        handles = []
        for node in wanted:
            module = self.network.get_submodule(node.removesuffix(INPUT))
            if node.endswith(INPUT):
                hook = module.register_forward_pre_hook(lambda _, args, node=node: keep(node, args[0]))
            else:
                hook = module.register_forward_hook(lambda _, args, output, node=node: keep(node, output))
            handles.append(hook)
        try:
            self.network(x)
        except _DeepestReachedError:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return {
            name: kept[tap.node].permute(0, 3, 1, 2) if tap.channels_last else kept[tap.node]
            for name, tap in self.taps.items()
        }


class _DeepestReachedError(Exception):
    """All wanted layers are there: nothing more needs to be computed."""


class _Tracer(fx.Tracer):
    """Trace a network and note the graph node of each module's input and output (of its last call)."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, fx.Node] = {}

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = self.path_of_module(m)
        if args and isinstance(args[0], fx.Proxy):
            self.nodes[path + INPUT] = args[0].node
        output = super().call_module(m, forward, args, kwargs)
        if isinstance(output, fx.Proxy):
            self.nodes[path] = output.node
        return output


def build_extractor(network: nn.Module, taps: Mapping[str, Tap], calls: Mapping[str, int]) -> nn.Module:
    """Cut a network after the deepest of the wanted layers.

    Parameters
    ----------
    network : Module
        In eval mode. Its modules are shared, not copied; those that work in place are told not to.
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
    for module in network.modules():
        if getattr(module, "inplace", False) is True:  # it would overwrite a layer that is kept
            module.inplace = False  # type: ignore[assignment]
    traced = _trace(network)
    if traced is None or any(tap.node not in traced.nodes for tap in taps.values()):
        return _HookExtractor(network, taps, calls).eval()
    return _cut(network, traced, taps).eval()


def _trace(network: nn.Module) -> _Tracer | None:
    """Trace the network into a graph without in-place operations; None where that cannot be done."""
    tracer = _Tracer()
    try:
        tracer.graph = tracer.trace(network)
    except Exception as error:  # a network may do anything with the proxies it is given
        logger.info("%s cannot be traced (%s); it runs with hooks", type(network).__name__, error)
        return None
    for node in tracer.graph.nodes:
        _make_functional(node)
    return None if any(_is_in_place(node) for node in tracer.graph.nodes) else tracer


def _make_functional(node: fx.Node) -> None:
    """Turn ``F.relu(x, inplace=True)`` into ``F.relu(x, inplace=False)``."""
    if node.op != "call_function" or not callable(node.target):
        return
    try:
        names = list(inspect.signature(node.target).parameters)
    except ValueError:  # a built-in function without a signature
        return
    if "inplace" in names:
        at = names.index("inplace")
        if len(node.args) > at:
            node.update_arg(at, False)
        elif "inplace" in node.kwargs:
            node.update_kwarg("inplace", False)


def _is_in_place(node: fx.Node) -> bool:
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name in IN_PLACE_OPERATORS or node.kwargs.get("out") is not None


def _cut(network: nn.Module, traced: _Tracer, taps: Mapping[str, Tap]) -> fx.GraphModule:
    graph = traced.graph
    order = {node: i for i, node in enumerate(graph.nodes)}
    ends = {name: traced.nodes[tap.node] for name, tap in taps.items()}
    deepest = max(order[node] for node in ends.values())
    _erase(graph, [node for node, i in order.items() if i > deepest and node.op != "placeholder"])
    for name, tap in taps.items():
        if tap.channels_last:
            ends[name] = graph.call_method("permute", (ends[name], 0, 3, 1, 2))
    graph.output(ends)
    graph.eliminate_dead_code()
    return _GraphExtractor(network, graph)


def _erase(graph: fx.Graph, nodes: Iterable[fx.Node]) -> None:
    for node in reversed(list(nodes)):  # users go before what they use
        graph.erase_node(node)
