"""Prepares a translated network for 8 bits: the channels of a map get one range, and those of weights their steps.

Between blocks, many networks pass on maps that no activation follows: sums of what convolutions give. One scale for
such a map leaves few of its 256 levels to channels that hardly vary. As nothing but convolutions and sums takes part, a
channel can be divided by a number where it is made and multiplied by it where it is read, and the codes stay the same
(cross-layer equalisation, Nagel et al. 2019, of maps without an activation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnncodes.exporting.session import open_session
from cnncodes.system.optional import require

__all__ = ["equalise", "groups", "weight_scales"]

MAX_RATIO = 1000.0  # of the ranges of two channels; a channel that is always 0 has none
MAX_WEIGHT = 127  # in 8 bits
MIN_STEP = 1e-6  # of the largest of the layer: biases are kept as 32-bit multiples of it


@dataclass
class _Stream:
    """Maps that are added to each other, so that their channels must have the same scales.

    Attributes
    ----------
    maps : list of str
    writers, readers : list of NodeProto
        Convolutions that give the maps, and that take them.
    """

    maps: list[str] = field(default_factory=list)
    writers: list[Any] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)


def equalise(model: Any, squares: Sequence[np.ndarray]) -> None:
    """Give all channels of a map that no activation follows the same range, in place; codes stay as they are.

    Parameters
    ----------
    model : onnx.ModelProto
        From ``squares`` to codes.
    squares : sequence of ndarray of float32, shape (3, S, S)
        Normalised images that the ranges are taken from.
    """
    helper = require("onnx", "export").numpy_helper
    weights = {one.name: one for one in model.graph.initializer}
    streams = _streams(model.graph)
    if not streams:
        return
    ranges = _ranges(model, [name for stream in streams for name in stream.maps], squares)

    def multiply(name: str, factors: np.ndarray) -> None:
        product = helper.to_array(weights[name]).astype(np.float64) * factors
        weights[name].CopyFrom(helper.from_array(product.astype(np.float32), name))

    for stream in streams:
        largest = np.max([ranges[name] for name in stream.maps], axis=0)
        factors = 1 / np.maximum(largest, max(float(largest.max()), 1e-9) / MAX_RATIO)
        factors /= np.exp(np.log(factors).mean())
        for node in stream.writers:
            multiply(node.input[1], np.expand_dims(factors, (1, 2, 3)))
            for bias in node.input[2:]:
                multiply(bias, factors)
        for node in stream.readers:
            multiply(node.input[1], 1 / np.expand_dims(factors, (1, 2, 3) if groups(node) > 1 else (1, 2)))


def weight_scales(weights: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the step between 8-bit weights of each channel that a convolution gives, shape (n_channels,).

    Processors without VNNI add two neighbouring products of 8 bits in 16 bits, where two large weights overflow:
    ``255 * (|a| + |b|)`` must stay below 2 ** 15. Half of the range would do for all; it is enough that two neighbours
    together stay within it, and weights that are multiplied one by one, of depthwise convolutions, may have all of it.

    Parameters
    ----------
    weights : ndarray, shape (n_channels, n_channels_in / n_groups, height, width)
    n_groups : int
        Groups of the convolution.

    Examples
    --------
    >>> weights = np.array([[127.0, -27.0], [0.0, -63.5]])[..., None, None]
    >>> weight_scales(weights, 1).round(3).tolist(), weight_scales(weights[:, :1], 2).tolist()
    ([1.213, 0.5], [1.0, 1e-06])
    """
    sizes = np.abs(weights.reshape(len(weights), -1))
    largest = sizes.max(axis=1)
    if n_groups == 1 and weights.shape[2:] == (1, 1):
        pairs = sizes[:, 1:] + sizes[:, :-1]
        largest = np.maximum(largest, pairs.max(axis=1, initial=0))
    elif n_groups != len(weights) or weights.shape[1] > 1:
        largest = 2 * largest  # it is not known which are neighbours
    steps = largest / MAX_WEIGHT
    scales: np.ndarray = np.maximum(steps, MIN_STEP * steps.max() or 1)
    return scales


def groups(node: Any) -> int:
    """Return the number of groups of a convolution."""
    return next((one.i for one in node.attribute if one.name == "group"), 1)


def _streams(graph: Any) -> list[_Stream]:
    """Return the streams of a graph whose channels can be scaled: only convolutions and sums make and read them."""
    shapes = {one.name: list(one.dims) for one in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    outputs = {one.name for one in graph.output}

    def scalable(node: Any) -> bool:
        if node.op_type != "Conv" or not all(name in shapes and uses[name] == 1 for name in node.input[1:]):
            return False
        n_out, n_in, *_ = shapes[node.input[1]]
        return groups(node) == 1 or (groups(node) == n_out and n_in == 1)  # depthwise: each channel from its own

    stream_of: dict[str, _Stream] = {}
    for node in graph.node:
        (*_, name) = node.output
        if scalable(node):
            stream_of[name] = _Stream([name], [node])
        elif node.op_type == "Add" and all(one in stream_of for one in node.input):
            first, second = (stream_of[one] for one in node.input)
            if first is not second:
                first.maps += second.maps
                first.writers += second.writers
                stream_of |= dict.fromkeys(second.maps, first)
            first.maps.append(name)
            stream_of[name] = first
    whole = {id(stream): stream for stream in stream_of.values() if outputs.isdisjoint(stream.maps)}
    for node in graph.node:
        for stream in {id(stream_of[name]): stream_of[name] for name in node.input if name in stream_of}.values():
            if scalable(node):
                stream.readers.append(node)
            elif stream_of.get(node.output[0]) is not stream:
                whole.pop(id(stream), None)
    return [stream for stream in whole.values() if stream.readers]


def _ranges(model: Any, names: list[str], squares: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the largest size of a number in each channel of maps."""
    onnx = require("onnx", "export")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session, ranges = open_session(copy.SerializeToString()), dict.fromkeys(names, np.zeros(()))
    for square in squares:
        maps = session.run(names, {"squares": square[None]})
        ranges = {
            name: np.maximum(ranges[name], np.abs(one).max(axis=(0, 2, 3)))
            for name, one in zip(names, maps, strict=True)
        }
    return ranges
