"""Lets oneDNN's convolutions do what follows them: an activation, or the addition of a shortcut and an activation."""

from __future__ import annotations

import copy
import operator
import platform
from typing import Any, cast

import torch
from torch import fx, nn

from cnncodes.runtime.precision import IN_FLOAT32

__all__ = ["can_be_fused", "fused", "is_hooked"]

CONVOLUTIONS = (nn.Conv2d, IN_FLOAT32[nn.Conv2d])
DTYPES = (torch.float32, torch.bfloat16)
TRIED_PROCESSORS = ("x86_64", "amd64")
# What oneDNN calls an activation, and its numbers; by the type of a module, or by a function.
ACTIVATIONS: dict[Any, tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
    nn.Hardsigmoid: ("hardsigmoid", []),
    nn.Sigmoid: ("sigmoid", []),
    nn.functional.relu: ("relu", []),
    torch.relu: ("relu", []),
}
NO_ACTIVATION: tuple[str, list[float]] = ("none", [])
ADDITIONS = (operator.add, torch.add)


def can_be_fused(network: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `fused` is of use: a traced network, on a processor for which oneDNN has convolutions in this type."""
    return (
        device.type == "cpu"
        and platform.machine().lower() in TRIED_PROCESSORS
        and torch.backends.mkldnn.is_available()
        and isinstance(network, fx.GraphModule)
        and any(type(module) in CONVOLUTIONS for module in network.modules())
        and (dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))
    )


def fused(network: nn.Module) -> nn.Module:
    """Copy a network that `can_be_fused`, each convolution together with what follows it.

    The maps are written once instead of up to three times, and rounded once. These are the operations that torch's
    compiler would choose.
    """
    network = fx.GraphModule(network, copy.deepcopy(cast(fx.GraphModule, network).graph))
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        convolution = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(convolution, nn.Conv2d) or not _is_plain(convolution) or len(node.args) != 1:
            continue
        last, shortcut, activation = _what_follows(node, modules)
        name = f"{node.name}_fused"
        network.add_module(name, _FusedConvolution(convolution, *activation))
        with network.graph.inserting_after(last):
            new = network.graph.call_module(name, (node.args[0], *shortcut))
        last.replace_all_uses_with(new)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def _is_plain(convolution: nn.Conv2d) -> bool:
    padded = not isinstance(convolution.padding, str) and convolution.padding_mode == "zeros"
    is_supported = type(convolution) in CONVOLUTIONS and convolution.weight.dtype in DTYPES
    return padded and is_supported and not is_hooked(convolution)


def is_hooked(module: nn.Module) -> bool:
    """Whether hooks are registered on a module."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _what_follows(
    node: fx.Node, modules: dict[str, nn.Module]
) -> tuple[fx.Node, list[fx.Node], tuple[str, list[float]]]:
    """Return the last node whose work a convolution can do, what the convolution adds, and its activation."""
    shortcut: list[fx.Node] = []
    follower = _only_user(node)
    convolution = cast(nn.Conv2d, modules[str(node.target)])
    # torch adds to grouped convolutions without oneDNN, and not in bfloat16; torch 2.11 cannot add to a single channel
    can_add = convolution.groups == 1 and convolution.out_channels > 1
    if can_add and follower is not None and follower.target in ADDITIONS and not follower.kwargs:
        others = [one for one in follower.args if isinstance(one, fx.Node) and one is not node]
        if len(others) == 1:
            shortcut, node = others, follower
            follower = _only_user(node)
    activation = _activation(follower, modules)
    if activation is None or follower is None or (shortcut and activation[0] != "relu"):
        return node, shortcut, NO_ACTIVATION
    return follower, shortcut, activation


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _activation(node: fx.Node | None, modules: dict[str, nn.Module]) -> tuple[str, list[float]] | None:
    if node is None or len(node.args) != 1:
        return None
    what: Any = node.target
    if node.op == "call_module":
        module = modules[str(node.target)]
        what = None if is_hooked(module) else type(module)
    elif node.op != "call_function":
        return None
    return ACTIVATIONS.get(what)


class _FusedConvolution(nn.Module):
    """A convolution with what follows it, in the type of its weights, which are kept in the order oneDNN wants."""

    def __init__(self, convolution: nn.Conv2d, activation: str, numbers: list[float]) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight.detach(), convolution.bias
        self.padding = list(cast(tuple[int, int], convolution.padding))
        self.stride, self.dilation = list(convolution.stride), list(convolution.dilation)
        self.geometry = (self.padding, self.stride, self.dilation, convolution.groups)
        self.activation, self.numbers = activation, numbers
        self.packed: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | float | None = None) -> torch.Tensor:
        x = x.to(self.weight.dtype)  # as autocast does
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(x.shape))
        operands = (x, self.packed, self.bias, *self.geometry)
        if shortcut is None:
            return torch.ops.mkldnn._convolution_pointwise(*operands, self.activation, self.numbers, "")
        if isinstance(shortcut, torch.Tensor) and shortcut.dtype == x.dtype and shortcut.shape == self._addable(x):
            after = None if self.activation == "none" else self.activation
            return torch.ops.mkldnn._convolution_pointwise.binary(
                x, shortcut, *operands[1:], "add", 1.0, after, self.numbers, ""
            )
        summed = torch.ops.mkldnn._convolution_pointwise(*operands, *NO_ACTIVATION, "") + shortcut
        return summed if self.activation == "none" else summed.relu()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": None}  # oneDNN's own tensors cannot be copied

    def _addable(self, x: torch.Tensor) -> tuple[int, ...] | None:
        """Return the shape of the maps; None for maps of one pixel, to which oneDNN in torch 2.11 cannot add."""
        sides = [
            (side + 2 * self.padding[i] - self.dilation[i] * (self.weight.shape[2 + i] - 1) - 1) // self.stride[i] + 1
            for i, side in enumerate(x.shape[2:])
        ]
        return None if sides == [1, 1] else (len(x), len(self.weight), *sides)
