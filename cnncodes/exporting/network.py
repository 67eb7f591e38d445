"""Adds a network to a graph: cut at its layers, with its pooling, as torch's exporter translates it."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from cnncodes.errors import ExportError, first_line
from cnncodes.exporting.graph import OPSET, Graph, Value
from cnncodes.models.map_source import MapSource
from cnncodes.networks.outputs import Prefix
from cnncodes.networks.pooling import NO_PREFIX, pool
from cnncodes.system.optional import require

__all__ = ["add_network", "translated"]

PREFIX = "network/"  # of the names in the part of the graph that is the network
OPERATOR = re.compile(r"(?:aten|torchvision|prims)[.:]+\w+")
MIN_HALVED = 1 << 14  # numbers in a tensor that is kept in float16; small ones, as of depthwise convolutions, lose more


class _Codes(nn.Module):
    """From normalised pixels to the pooled codes of some layers, and to maps."""

    def __init__(
        self,
        extractor: nn.Module,
        layers: list[str],
        pooling: str,
        maps: Sequence[MapSource],
        prefixes: Sequence[Prefix],
    ) -> None:
        super().__init__()
        self.extractor, self.pooling, self.maps = extractor, pooling, maps
        self.prefixes = dict(zip(layers, prefixes or [NO_PREFIX] * len(layers), strict=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.extractor(x)
        maps = [outputs[one.layer].relu() if one.rectified else outputs[one.layer] for one in self.maps]
        return (*(pool(outputs[name], self.pooling, prefix) for name, prefix in self.prefixes.items()), *maps)


def translated(
    extractor: nn.Module,
    layers: list[str],
    pooling: str,
    image_size: int,
    name: str,
    maps: Sequence[MapSource] = (),
    prefixes: Sequence[Prefix] = (),
) -> Any:
    """Translate a network to ONNX, with a batch of any size.

    Parameters
    ----------
    extractor : Module
        Maps a normalised batch (n, 3, S, S) to a dict of layers.
    layers : list of str
        Outputs, in this order: codes (n, n_features).
    pooling : str
    image_size : int
        Side of the squares in pixels.
    name : str
        Name of the network, for the message.
    maps : sequence of MapSource, default=()
        Maps that are outputs, too, after the codes.
    prefixes : sequence of Prefix, default=()
        The tokens before the patches in each layer; none by default.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ExportError
        The exporter does not know an operator of the network, or cannot follow it.
    """
    require("onnxscript", "export")
    module = _Codes(extractor, layers, pooling, maps, prefixes).cpu().eval()
    example = torch.zeros(2, 3, image_size, image_size)
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["squares"],
                output_names=[f"output{i}" for i in range(len(layers) + len(maps))],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                verbose=False,
            )
        except Exception as error:  # the exporter fails in many ways
            raise _refusal(name, error) from error
    return program.model_proto


def add_network(graph: Graph, squares: Value, model: Any, *, half: bool = False) -> list[Value]:
    """Add a translated network.

    Parameters
    ----------
    graph : Graph
    squares : Value of float32, shape (n, 3, S, S)
    model : onnx.ModelProto
        What `translated` returned.
    half : bool, default=False
        Keep large tensors in float16; computing stays in float32.

    Returns
    -------
    list of Value of float32, shape (n, n_features) or (n, C, H, W)
        Codes of each layer, then the maps.
    """
    onnx = graph.onnx
    model = onnx.compose.add_prefix(model, PREFIX)
    graph.nodes.append(onnx.helper.make_node("Identity", [squares.name], [model.graph.input[0].name]))
    for tensor in model.graph.initializer:
        if half and tensor.data_type == onnx.TensorProto.FLOAT and _count(tensor.dims) >= MIN_HALVED:
            _add_halved(graph, tensor)
        else:
            graph.initializers.append(tensor)
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the exporting program the operator comes from
        node.doc_string = ""
        graph.nodes.append(node)
    return [Value(graph, output.name, np.dtype(np.float32)) for output in model.graph.output]


def _add_halved(graph: Graph, tensor: Any) -> None:
    """Add a tensor that is kept in float16, unless that does not hold it."""
    values = graph.onnx.numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        halved = values.astype(np.float16)
    if not np.isfinite(halved).all():
        graph.initializers.append(tensor)
        return
    name = f"{tensor.name}.half"
    graph.initializers.append(graph.onnx.numpy_helper.from_array(halved, name))
    graph.nodes.append(graph.onnx.helper.make_node("Cast", [name], [tensor.name], to=graph.onnx.TensorProto.FLOAT))


def _count(shape: Any) -> int:
    return int(np.prod(list(shape), dtype=np.int64))


def _refusal(name: str, error: BaseException) -> ExportError:
    """Return the error for a network that cannot be translated, with the operator that is in the way."""
    operators: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        operators += OPERATOR.findall(str(cause))
        reason, cause = first_line(cause), cause.__cause__
    if operators:
        reason = f"its operator {operators[-1]} is not known there"
    return ExportError(f"{name} cannot be exported by torch {torch.__version__}: {reason}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let the exporter print and log nothing: what matters is in its errors."""
    loggers = [logging.getLogger(one) for one in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
