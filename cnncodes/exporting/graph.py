"""Writes an ONNX graph operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from cnncodes.system.optional import require

__all__ = ["IR_VERSION", "OPSET", "Graph", "Operand", "Value"]

OPSET = 20  # of operators: the lowest that torch exports all networks to
IR_VERSION = 10  # of the file format: the lowest for that opset

Operand: TypeAlias = "Value | float | np.ndarray"


@dataclass(frozen=True)
class Value:
    """What an operator of a graph gives. Arithmetic and comparisons with it add operators; they have its type.

    Parameters
    ----------
    graph : Graph
    name : str
    dtype : numpy.dtype
    """

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def __add__(self, other: Operand) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", self.graph.constant(other, self.dtype), self)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        """Divide; integers above 0 are rounded down."""
        return self.graph.op("Div", self, other)

    def __matmul__(self, other: Operand) -> Value:
        return self.graph.op("MatMul", self, other)

    def __lt__(self, other: Operand) -> Value:  # type: ignore[misc]  # an array on the left would do it by itself
        return self.graph.op("Less", self, other, dtype=bool)

    def __gt__(self, other: Operand) -> Value:  # type: ignore[misc]
        return self.graph.op("Greater", self, other, dtype=bool)

    def __ge__(self, other: Operand) -> Value:
        return self.graph.op("GreaterOrEqual", self, other, dtype=bool)

    def __and__(self, other: Value) -> Value:
        return self.graph.op("And", self, other)

    def to(self, dtype: Any) -> Value:
        """Convert; to integers towards 0."""
        kind = self.graph.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self if self.dtype == dtype else self.graph.op("Cast", self, dtype=dtype, to=kind)

    def where(self, yes: Operand, no: Operand, dtype: Any) -> Value:
        """Return `yes` where this is true, and `no` elsewhere."""
        chosen = [self.graph.constant(one, dtype) for one in (yes, no)]
        return self.graph.op("Where", self, *chosen, dtype=dtype)

    def shaped(self, *shape: int) -> Value:
        """Return the same numbers in another shape, in which -1 is what follows from the others."""
        return self.graph.op("Reshape", self, np.array(shape, np.int64))


@dataclass
class Graph:
    """Operators in the order of computation, and constants.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
    initializers : list of onnx.TensorProto
    """

    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.onnx = require("onnx", "export")
        self.n_names = 0
        self.constants: dict[tuple[bytes, str, tuple[int, ...]], Value] = {}

    def op(self, kind: str, *inputs: Operand, dtype: Any = None, **attributes: Any) -> Value:
        """Add an operator with one output.

        Parameters
        ----------
        kind : str
            Name of the operator.
        *inputs : Value, number or ndarray
            Numbers get the type of the first input; arrays keep their own.
        dtype : dtype, optional
            Type of the output; by default that of the first input.
        **attributes
            Attributes of the operator.
        """
        values: list[Value] = []
        for one in inputs:
            values.append(self.constant(one, values[0].dtype if values and np.isscalar(one) else None))
        (name,) = self.op_outputs(kind, [one.name for one in values], 1, **attributes)
        return Value(self, name, np.dtype(dtype or values[0].dtype))

    def op_outputs(self, kind: str, inputs: Sequence[str], n_outputs: int, **attributes: Any) -> list[str]:
        """Add an operator with several outputs, and return their names."""
        outputs = [self.new_name() for _ in range(n_outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def constant(self, value: Operand, dtype: Any = None) -> Value:
        """Return a constant, one for equal arrays; a `Value` is returned as it is."""
        if isinstance(value, Value):
            return value
        array = np.asarray(value, dtype)
        key = array.tobytes(), array.dtype.str, array.shape
        if key not in self.constants:
            name = self.new_name()
            self.initializers.append(self.onnx.numpy_helper.from_array(array.copy(order="C"), name))
            self.constants[key] = Value(self, name, array.dtype)
        return self.constants[key]

    def either(self, condition: Value, yes: Callable[[], Value], no: Callable[[], Value]) -> Value:
        """Add a choice between the operators that two functions add, of which only one is computed.

        Parameters
        ----------
        condition : Value of bool, shape ()
        yes, no : callable
            Each adds operators and returns the last one's output; they have the same type.
        """
        outer, branches, results = self.nodes, [], []
        for add in (yes, no):
            self.nodes = []
            results.append(add())
            output = self.onnx.helper.make_empty_tensor_value_info(results[-1].name)
            branches.append(self.onnx.helper.make_graph(self.nodes, "branch", [], [output]))
        self.nodes = outer
        return self.op("If", condition, dtype=results[0].dtype, then_branch=branches[0], else_branch=branches[1])

    def new_name(self) -> str:
        """Return a name that no other value has."""
        self.n_names += 1
        return f"v{self.n_names}"

    def model(self, inputs: Sequence[Any], outputs: Sequence[tuple[str, Value, Sequence[Any] | None]]) -> Any:
        """Return the model.

        Parameters
        ----------
        inputs : sequence of onnx.ValueInfoProto
        outputs : sequence of (name, value, shape)
            An axis is a number, or the name of one that is not fixed; without a shape, none is stated.

        Returns
        -------
        onnx.ModelProto
        """
        helper = self.onnx.helper
        named = [helper.make_node("Identity", [value.name], [name]) for name, value, _ in outputs]
        described = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), shape)
            for name, value, shape in outputs
        ]
        graph = helper.make_graph([*self.nodes, *named], "cnncodes", list(inputs), described, self.initializers)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="cnncodes")
