"""Traces a network into a graph, with no change to torch that other threads would see."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import FunctionType, SimpleNamespace, new_class
from typing import Any

import torch
from torch import fx, nn
from torch.fx._symbolic_trace import _create_wrapped_func, _wrapped_fns_to_patch

from cnncodes.networks.layers import INPUT

__all__ = ["Tracer"]

# Functions of numbers are recorded like those of tensors when they are called with proxies.
RECORDED_MATH = SimpleNamespace(
    **{name: _create_wrapped_func(value) if callable(value) else value for name, value in vars(math).items()}
)
PLAIN = {"__call__": nn.Module.__call__, "__getattr__": nn.Module.__getattr__}


class Tracer(fx.Tracer):
    """Trace a network and note the graph node of each module's input and output (of its last call)."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, fx.Node] = {}
        self.recording: dict[type[nn.Module], type[nn.Module]] = {}
        self.parameters: dict[str, fx.Proxy] = {}

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Trace a network that is not needed afterwards: its modules become recording modules.

        `torch.fx.Tracer.trace` patches `torch.nn.Module` instead. Meanwhile, modules that other threads run would
        become nodes of this graph, and two traces at a time would leave the patch of one behind for good.
        """
        if any(
            part._compiled_call_impl or type(part).__module__.startswith("torch._dynamo") for part in root.modules()
        ):
            raise RuntimeError("parts of it are compiled")
        self.root = root
        self.root_module_name = root._get_name()
        self.submodule_paths = {module: path for path, module in root.named_modules()}
        self.tensor_attrs = {
            value: f"{path}.{name}".removeprefix(".")
            for path, module in root.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, torch.Tensor | torch.ScriptObject)
        }
        self.graph = fx.Graph(tracer_cls=type(self))
        for module in root.modules():
            module.__class__ = self._recording(type(module))
        forward = type(root).forward
        name = list(inspect.signature(forward).parameters)[1]
        # images alone: what else a network may take, such as a mask, would be recorded as an input of every block
        images = self.create_proxy("placeholder", name, (), {})
        self.create_node("output", "output", (self.create_arg(forward(root, images)),), {})
        return self.graph

    @property
    def constants(self) -> dict[str, Any]:
        """What the graph reads and the network makes as it runs, such as rotary positions, by the names in the graph.

        It is the same whatever the images are, or it would have been recorded; it is kept in the traced copy alone.
        """
        kept = vars(self.root)
        targets = [str(node.target) for node in self.graph.nodes if node.op == "get_attr"]
        return {name: kept[name] for name in targets if name in kept}

    def _recording(self, kind: type[nn.Module]) -> type[nn.Module]:
        """Derive a class whose calls, parameters and functions that `torch.fx.wrap` was given are recorded."""
        if kind in self.recording:
            return self.recording[kind]
        plain_call, plain_get = _method(kind, "__call__"), _method(kind, "__getattr__")

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return self.call_module(module, lambda *args, **kwargs: plain_call(module, *args, **kwargs), args, kwargs)

        def get(module: nn.Module, name: str) -> Any:
            return self.getattr(name, plain_get(module, name), self.parameters)

        methods = {"__call__": call, "__getattr__": get, "__module__": kind.__module__, **_recorded_methods(kind)}
        self.recording[kind] = new_class(kind.__name__, (kind,), exec_body=lambda names: names.update(methods))
        return self.recording[kind]

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


def _method(kind: type[nn.Module], name: str) -> Callable[..., Any]:
    """Return the method of a class, without the patch of `torch.nn.Module` by code that traces at the same time."""
    return next(
        (vars(base)[name] for base in kind.__mro__ if name in vars(base) and base is not nn.Module), PLAIN[name]
    )


def _recorded_methods(kind: type[nn.Module]) -> dict[str, FunctionType]:
    """Return copies of those methods of a class that `_recorded` has to change."""
    copies: dict[FunctionType, FunctionType] = {}
    methods = {name: method for base in reversed(kind.__mro__) for name, method in vars(base).items()}
    functions = {name: method for name, method in methods.items() if isinstance(method, FunctionType)}
    recorded = {name: _recorded(function, copies) for name, function in functions.items()}
    return {name: function for name, function in recorded.items() if function is not functions[name]}


def _recorded(function: FunctionType, copies: dict[FunctionType, FunctionType]) -> FunctionType:
    """Copy a function that calls `math` or what `torch.fx.wrap` was given, itself or through others, to record that."""
    if function not in copies:
        copies[function] = function  # for a function that calls itself
        around, others = function.__globals__, dict[str, Any]()
        for name in function.__code__.co_names:
            called = around.get(name)
            if called is math:
                others[name] = RECORDED_MATH
            elif (id(around), name) in _wrapped_fns_to_patch:
                others[name] = _create_wrapped_func(around[name])
            elif isinstance(called, FunctionType) and not called.__module__.startswith("torch."):
                others[name] = _recorded(called, copies)
        if any(other is not around[name] for name, other in others.items()):
            changed = FunctionType(
                function.__code__, {**around, **others}, None, function.__defaults__, function.__closure__
            )
            changed.__kwdefaults__ = function.__kwdefaults__
            copies[function] = changed
    return copies[function]
