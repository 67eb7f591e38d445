"""The layers of a network: their names, and the shapes they give at an image size.

A *node* is what a layer name resolves to: a module path (``features.13``: the output of that module), or a module path
followed by ``:input`` (``fc:input``: what enters it) or by ``:normed`` (``blocks.5:normed``: the output of a block with
the final norm applied).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnncodes.networks.outputs import Output, Prefix
from cnncodes.networks.tokens import NORMED, blocks_of, final_norm, prefix_of, prefix_within

__all__ = ["INPUT", "STAGES", "LayerInfo", "Survey", "find_stages", "survey"]

INPUT = ":input"
STAGES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}  # alias: stride in pixels
# Their outputs are no feature maps: their size does not depend on the image, or they compute nothing.
NOT_FEATURE_MAPS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout2d, nn.Identity)
SURVEY_BATCH = 2  # distinguishes a batch axis from an axis of length 1
# Parameters times pixels of an image: with more, a run takes longer than torch's meta tensors take to import.
MAX_RUN_ON_ZEROS = 30_000_000 * 256**2


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
    tokens : int or None
        Length of a sequence.
    grid : tuple of int or None
        Rows and columns of the patches in a sequence; what stands before them are class and register tokens.
    """

    name: str
    path: str
    map_shape: tuple[int, ...]
    stride: int | None
    n_features: int
    aliases: tuple[str, ...] = ()
    tokens: int | None = None
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class Survey:
    """What every node gives at one image size, in the order of computation; and how often each module is called.

    `order` numbers the moments of a pass: ``PATH:input`` is when a module is first entered, ``PATH`` is when it is left
    for the last time.
    """

    image_size: int
    outputs: Mapping[str, Output]
    calls: Mapping[str, int]
    order: Mapping[str, int]

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
                n_features=output.width,
                aliases=tuple(names.get(node, ())),
                tokens=output.shape[0] if len(output.shape) == 2 else None,
                grid=output.grid,
            )
            for node, output in self.outputs.items()
            if not node.endswith((INPUT, NORMED)) or node in names
        ]


def survey(network: nn.Module, image_size: int, native: Survey | None = None) -> Survey:
    """Run the network once on zeros, or on meta tensors if it is large, and note the shapes of what its modules give.

    Parameters
    ----------
    network : Module
        In eval mode.
    image_size : int
        Side of the square images in pixels.
    native : Survey, optional
        One made at the size that the weights expect: what is unclear at another size, strides and the order of the
        axes, is taken from it.

    Raises
    ------
    RuntimeError, ValueError, AssertionError and others
        Whatever the network raises for images of this size.
    """
    n_params = sum(parameter.numel() for parameter in network.parameters())
    device = "cpu" if n_params * image_size**2 <= MAX_RUN_ON_ZEROS else "meta"
    x = torch.zeros(SURVEY_BATCH, 3, image_size, image_size, device=device)
    try:
        shapes, calls, order = _watch(_shadow(network, device), x)
    except Exception:  # it cannot be copied, or computes with tensors of its own
        shapes, calls, order = _watch(network, torch.zeros_like(x, device="cpu"))
    native_outputs, prefix = native.outputs if native else {}, prefix_of(network)
    outputs = {node: _output(shape, image_size, native_outputs.get(node), prefix) for node, shape in shapes.items()}
    known = {node: output for node, output in outputs.items() if output is not None}
    return Survey(image_size, _with_normed(network, known), calls, order)


def _with_normed(network: nn.Module, outputs: Mapping[str, Output]) -> dict[str, Output]:
    """Add what each block gives with the final norm applied, behind what it gives."""
    blocks = blocks_of(network, outputs)
    if not blocks or final_norm(network, outputs[blocks[-1]].width) is None:
        return dict(outputs)
    normed: dict[str, Output] = {}
    for node, output in outputs.items():
        normed |= {node: output, node + NORMED: output} if node in blocks else {node: output}
    return normed


def _shadow(network: nn.Module, device: str) -> nn.Module:
    """Copy a network but not its tensors, so that whatever a module remembers of a run stays in the copy."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor.to(device) for tensor in tensors})


def _watch(network: nn.Module, x: torch.Tensor) -> tuple[dict[str, tuple[int, ...]], Counter[str], dict[str, int]]:
    """Run the network; return the shape at each node, in the order of the last calls, the calls, and their order."""
    shapes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()
    order: dict[str, int] = {}
    moments = itertools.count(1)

    def note(node: str, value: Any) -> None:
        shapes.pop(node, None)
        if isinstance(value, torch.Tensor) and value.ndim in (2, 3, 4) and value.shape[0] == SURVEY_BATCH:
            shapes[node] = tuple(value.shape[1:])

    def before(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            order.setdefault(path + INPUT, next(moments))
            note(path + INPUT, args[0] if args else None)

        return hook

    def after(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            calls[path] += 1
            order[path] = next(moments)
            note(path, output)

        return hook

    modules = [(path, module) for path, module in network.named_modules() if path]
    handles = [module.register_forward_pre_hook(before(path)) for path, module in modules]
    handles += [module.register_forward_hook(after(path)) for path, module in modules]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return shapes, calls, order


def _output(shape: tuple[int, ...], image_size: int, native: Output | None, prefix: Prefix) -> Output | None:
    """Read the axes of one image's output. Images are square, so the two equal axes of a map are H and W."""
    if len(shape) == 1:
        return Output(shape, False, None)
    if len(shape) == 2:
        native_prefix = native.prefix if native is not None and len(native.shape) == 2 else None
        return Output(shape, False, None, prefix_within(shape[0], native_prefix or prefix))
    a, b, c = shape
    if native is not None and len(native.shape) == 3:
        return Output((c, a, b) if native.channels_last else shape, native.channels_last, native.stride)
    if b == c:
        return Output((a, b, c), False, _stride(image_size, b))
    if a == b:
        return Output((c, a, b), True, _stride(image_size, a))
    return None  # windows of a map, heads of an attention: nothing to pool over


def _stride(image_size: int, side: int) -> int | None:
    """Return the nominal stride: a map of 8 steps over 240 or 299 pixels has stride 32, one of 16 over 224 has 14."""
    if side == 1 and image_size > 1:
        return None
    nominal = 2 ** max(0, round(math.log2(image_size / side)))
    exact, rest = divmod(image_size, side)
    return exact if not rest and abs(exact - nominal) > nominal / 10 else nominal


def find_stages(network: nn.Module, native: Survey, head: str) -> dict[str, str]:
    """Find the last feature map at stride 4, 8, 16 and 32: the nodes of `STAGES`.

    A module of the network that has the very name of a stage is that stage. Inside a module that keeps or doubles the
    stride only maps of the stride it ends with count: the others are steps on the way, or the weights of an attention.
    A network whose maps start at a larger stride than 4 (a vision transformer) has no stages.
    """
    modules = dict(network.named_modules())
    order = list(native.outputs)
    before_head = order[: order.index(head + INPUT)] if head + INPUT in native.outputs else order
    last: dict[int, str] = {}
    for node in before_head:
        stride = native.outputs[node].stride
        if stride is None or node.endswith(INPUT) or isinstance(modules[node], NOT_FEATURE_MAPS):
            continue
        if all(_counts(native, ancestor, stride) for ancestor in _ancestors(node)):
            last[stride] = node
    stages = {name: last[stride] for name, stride in STAGES.items() if stride in last} if 4 in last else {}
    named = {name: name for name in STAGES if name in native.outputs}
    return {name: (stages | named)[name] for name in STAGES if name in stages | named}


def _ancestors(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _counts(native: Survey, path: str, stride: int) -> bool:
    """Whether a map of this stride inside the module is more than a step on the way to the module's output."""
    before, after = native.outputs.get(path + INPUT), native.outputs.get(path)
    if before is None or after is None or before.stride is None or after.stride is None:
        return True
    return after.stride not in (before.stride, 2 * before.stride) or stride == after.stride
