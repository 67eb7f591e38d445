"""A network is translated with its pooling, for batches of any size."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from cnncodes import load_backbone
from cnncodes.errors import ExportError
from cnncodes.exporting.graph import Graph, Value
from cnncodes.exporting.network import _refusal, add_network, translated
from cnncodes.networks.pooling import POOLINGS, pool
from cnncodes.runtime.forward import fold

FAMILIES = (  # the smallest member of each convolutional family of torchvision
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5"),
    *("squeezenet1_1", "vgg11"),
)
SIZE = 96  # pixels; those that take no less get their own size
SIZES = {"inception_v3": 139, "alexnet": 127, "efficientnet_v2_s": 224}  # so deep that rounding grows in smaller maps


def lively(module: nn.Module, size: int) -> None:
    """Scale random parameters so that codes depend on the image: those of a new network in eval mode hardly do."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    module(torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0)))
    module.eval()


def codes_of(program: onnx.ModelProto, squares: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(program.SerializeToString())
    return session.run(None, {"squares": squares.numpy()})


def relative(expected: torch.Tensor, got: np.ndarray) -> float:
    """Largest difference of two codes, in deviations of the codes over images."""
    codes = expected.numpy()
    spread = codes.std(axis=0).mean()
    assert spread > 1e-3 * np.abs(codes).mean(), "constants would agree, whatever the network is"
    return float(np.abs(codes - got).max() / spread)


@pytest.fixture
def registry_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import cache

    from torch.onnx._internal.exporter import _registration

    made = staticmethod(cache(_registration.ONNXRegistry.from_torchlib))
    monkeypatch.setattr(_registration.ONNXRegistry, "from_torchlib", made)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_every_convolutional_family_is_translated(name, registry_is_made_once):
    backbone, size = load_backbone(name, "random"), SIZES.get(name, SIZE)
    lively(backbone.module, size)
    layers = ["layer3", "penultimate"]
    extractor, _ = fold(backbone.extractor(layers))
    program = translated(extractor, layers, "avg", size, name)
    squares = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    outputs = extractor(squares)
    for layer, got in zip(layers, codes_of(program, squares), strict=True):
        assert relative(pool(outputs[layer], "avg"), got) < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("pooling", [name for name in POOLINGS if "cls" not in name])  # a map has no class token
@torch.no_grad()
def test_every_pooling_is_translated(pooling, registry_is_made_once):
    backbone = load_backbone("mobilenet_v2")
    extractor, _ = fold(backbone.extractor(["layer4"]))
    program = translated(extractor, ["layer4"], pooling, 160, "mobilenet_v2")  # whose map has 5 × 5 places
    squares = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    assert relative(pool(extractor(squares)["layer4"], pooling), codes_of(program, squares)[0]) < 1e-3


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"odd": torch.linalg.lstsq(x[:, 0], x[:, 1]).solution.flatten(1)}


@pytest.mark.slow
def test_an_operator_that_cannot_be_exported_is_named():
    with pytest.raises(ExportError, match=r"^own cannot be exported by torch \S+: its operator aten[.:]+\w*lstsq"):
        translated(Odd(), ["odd"], "avg", 8, "own")


def test_a_refusal_names_the_operator_or_the_reason():
    deep = RuntimeError("failed")
    deep.__cause__ = ValueError("No ONNX function found for <OpOverload(op='aten.polygamma', overload='default')>")
    assert "its operator aten.polygamma is not known there" in str(_refusal("own", deep))
    assert str(_refusal("own", RuntimeError("no\nway"))).endswith(": no")


def half_precision(shape: tuple[int, ...], largest: float, graph_runner) -> tuple[Graph, np.ndarray]:
    """A network that multiplies by a matrix, added with half the precision."""
    weights = np.full(shape, largest, np.float32) + np.float32(1e-4)
    graph = Graph()
    helper = graph.onnx.helper
    described = [helper.make_tensor_value_info(name, 1, ["n", None]) for name in ("squares", "codes")]
    node = helper.make_node("MatMul", ["squares", "w"], ["codes"])
    initializer = graph.onnx.numpy_helper.from_array(weights, "w")
    inner = helper.make_graph([node], "g", described[:1], described[1:], [initializer])
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    squares = Value(graph, "x", np.dtype(np.float32))
    (codes,) = add_network(graph, squares, model, half=True)
    x = np.float32(np.eye(1, shape[0]))
    return graph, graph_runner(graph, {"codes": codes}, x=x)(x=x)["codes"]


def test_large_tensors_are_halved_where_float16_holds_them(graph_runner):
    for shape, largest, bytes_a_number in (((128, 128), 1.0, 2), ((8, 8), 1.0, 4), ((128, 128), 1e5, 4)):
        graph, codes = half_precision(shape, largest, graph_runner)
        size = sum(len(one.raw_data) for one in graph.initializers)
        assert size == bytes_a_number * shape[0] * shape[1]
        kept = np.float32(largest) + np.float32(1e-4)
        assert codes[0, 0] == (np.float32(np.float16(kept)) if bytes_a_number == 2 else kept)
