"""Channels get one range without a change of what a network computes, and neighbouring weights never overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnncodes.exporting.equalisation import equalise, weight_scales
from cnncodes.exporting.graph import Graph, Value

onnx, reference = pytest.importorskip("onnx"), pytest.importorskip("onnx.reference")
C = 4  # channels


def convolution(graph: Graph, maps: Value, n: int, side: int = 1, groups: int = 1, spread: bool = False) -> Value:
    random = np.random.default_rng(len(graph.nodes))
    weights = random.normal(size=(n, C // groups, side, side))
    sizes = np.logspace(-2, 0, n) if spread else np.ones(n)
    constants = [weights * sizes[:, None, None, None], random.normal(size=n) * sizes]
    inputs = [graph.constant(one.astype(np.float32)) for one in constants]
    return graph.op("Conv", maps, *inputs, group=groups, pads=[side // 2] * 4)


def network(read: bool = True, activation: bool = False, paired: bool = False) -> tuple[Any, str]:
    """A network with a stream that two convolutions write and two read, one of them depthwise; also the stream."""
    graph = Graph()
    squares = Value(graph, "squares", np.dtype(np.float32))
    first = convolution(graph, convolution(graph, squares, C, groups=1), C, side=3, spread=True)
    inside = graph.op("Relu", convolution(graph, first, C))
    second = convolution(graph, inside, C, spread=True)
    stream = first + second
    if activation:
        stream = graph.op("Relu", stream)
    wide, deep = convolution(graph, stream, 2 * C), convolution(graph, stream, C, side=3, groups=C)
    if paired:  # each group makes one channel of two
        deep = convolution(graph, stream, C // 2, groups=C // 2)
    outputs = [("a", wide, None), ("b", deep, None)] + ([] if read else [("c", stream, None)])
    described = onnx.helper.make_tensor_value_info("squares", onnx.TensorProto.FLOAT, ["n", C, None, None])
    return graph.model([described], outputs), stream.name


def outputs_of(model: Any, squares: np.ndarray, *names: str) -> list[np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return reference.ReferenceEvaluator(copy).run(list(names) or None, {"squares": squares})


def ranges(maps: np.ndarray) -> np.ndarray:
    return np.abs(maps).max(axis=(0, 2, 3))


def test_channels_of_a_stream_get_one_range_and_outputs_stay():
    squares = np.random.default_rng(0).normal(size=(3, C, 6, 6)).astype(np.float32)
    model, stream = network()
    before = outputs_of(model, squares)
    (spread,) = outputs_of(model, squares, stream)
    assert np.ptp(np.log(ranges(spread))) > 3
    equalise(model, squares)
    for old, new in zip(before, outputs_of(model, squares), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5 * np.abs(old).max())
    (even,) = outputs_of(model, squares, stream)
    assert np.ptp(np.log(ranges(even))) < 1


@pytest.mark.parametrize("settings", [{"read": False}, {"activation": True}, {"paired": True}])
def test_a_stream_that_others_read_stays(settings):
    squares = np.random.default_rng(0).normal(size=(3, C, 6, 6)).astype(np.float32)
    model, stream = network(**settings)
    names = [one.name for one in model.graph.output] + [stream]
    before = outputs_of(model, squares, *names[-1:])
    equalise(model, squares)
    np.testing.assert_allclose(outputs_of(model, squares, *names[-1:]), before, rtol=1e-4, atol=1e-5)


def test_a_network_without_streams_stays():
    graph = Graph()
    squares = Value(graph, "squares", np.dtype(np.float32))
    described = onnx.helper.make_tensor_value_info("squares", onnx.TensorProto.FLOAT, ["n", C, None, None])
    model = graph.model([described], [("a", graph.op("Relu", convolution(graph, squares, C)), None)])
    before = model.SerializeToString()
    equalise(model, np.zeros((1, C, 6, 6), np.float32))
    assert model.SerializeToString() == before


@pytest.mark.parametrize("n_channels", [1, 2, 7, 64])
def test_two_neighbouring_products_stay_within_16_bits(n_channels):
    random = np.random.default_rng(n_channels)
    weights = random.standard_t(2, size=(50, n_channels, 1, 1))
    weights[0] = 1.0  # no step is larger than that of half of the range
    steps = weight_scales(weights, 1)
    rounded = np.abs(np.round(weights[..., 0, 0] / steps[:, None]))
    assert rounded.max() <= 127
    assert (255 * (rounded[:, 1:] + rounded[:, :-1])).max(initial=0) < 2**15
    assert (steps <= 2.0001 * np.abs(weights).max(axis=(1, 2, 3)) / 127).all()


@pytest.mark.parametrize(
    ("shape", "n_groups", "share"),
    [((8, 1, 3, 3), 8, 1), ((8, 4, 3, 3), 1, 2), ((8, 2, 1, 1), 2, 2), ((8, 2, 1, 1), 8, 2), ((1, 3, 3, 3), 1, 2)],
)
def test_only_depthwise_weights_have_all_of_the_range(shape, n_groups, share):
    weights = np.random.default_rng(0).normal(size=shape)
    expected = share * np.abs(weights).max(axis=(1, 2, 3)) / 127
    np.testing.assert_allclose(weight_scales(weights, n_groups), expected)


def test_steps_of_channels_without_weights_are_not_zero():
    assert weight_scales(np.zeros((2, 1, 1, 1)), 1).tolist() == [1, 1]
    weights = np.array([1.0, 0.0])[:, None, None, None]
    assert weight_scales(weights, 2).tolist() == [1 / 127, 1e-6 / 127]
