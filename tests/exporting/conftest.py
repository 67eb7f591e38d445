"""A small network, models of its codes, and its translation, which torch makes only once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_network import PLAIN, Staged

from cnncodes import ImageSet, ProbeModel, extract, fit, register_backbone
from cnncodes.exporting import export as exporting
from cnncodes.exporting.graph import Graph
from cnncodes.exporting.network import translated

CLASSES = ("blue", "green", "red")
N = 12  # images a class
LAYERS = ("layer3", "penultimate")


@pytest.fixture(scope="session", autouse=True)
def staged() -> str:
    register_backbone("exported", Staged, preprocessing=PLAIN, overwrite=True)
    return "exported"


@pytest.fixture(scope="session", autouse=True)
def each_network_is_translated_once() -> Iterator[None]:
    """The exporter of torch takes three seconds for the smallest network."""
    cache: dict[tuple[Any, ...], Any] = {}

    def translate(extractor: torch.nn.Module, layers: list[str], *rest: Any) -> Any:
        parameters = b"".join(one.detach().numpy().tobytes() for one in extractor.state_dict().values())
        key = (parameters, *layers, *rest)
        if key not in cache:
            cache[key] = translated(extractor, layers, *rest)
        return cache[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "translated", translate)
        yield


@pytest.fixture(scope="session")
def coloured() -> ImageSet:
    """Noise with a tint that does not tell the classes apart perfectly."""
    random = np.random.default_rng(0)
    tints = 128 + 40 * np.eye(3)[::-1]
    pixels = np.concatenate([random.normal(tint, 60, (N, 40, 48, 3)) for tint in tints]).clip(0, 255).astype(np.uint8)
    labels = [label for label in CLASSES for _ in range(N)]
    return ImageSet([f"{i:02}" for i in range(len(labels))], list(pixels), labels=labels)


@pytest.fixture(scope="session")
def make_model(coloured: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ProbeModel]:
    """Fit a model of the small network, with these settings of `extract` and of `fit`."""
    folder = tmp_path_factory.mktemp("models")

    @functools.cache
    def codes(classes: tuple[str, ...], settings: tuple[tuple[str, Any], ...]) -> str:
        path = folder / f"{len(list(folder.iterdir()))}.h5"
        assert coloured.labels is not None
        rows = [i for i, label in enumerate(coloured.labels) if label in classes]
        extract(
            coloured.take(rows), path, backbone="exported", layers=LAYERS, **{"precision": "fp32", **dict(settings)}
        )
        return str(path)

    @functools.cache
    def make(
        classes: tuple[str, ...] = CLASSES, extracted: tuple[tuple[str, Any], ...] = (), **fitted: Any
    ) -> ProbeModel:
        return fit(codes(classes, extracted), **{"layers": LAYERS, "C": 1.0, "cv": 3, "guard": False, **fitted})

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[..., ProbeModel]) -> ProbeModel:
    return make_model()


Runner: TypeAlias = Callable[..., dict[str, np.ndarray]]


def runner(graph: Graph, outputs: dict[str, Any], **examples: np.ndarray) -> Runner:
    """Return a function that runs a graph on arrays like these."""
    helper = graph.onnx.helper
    described = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in examples.items()
    ]
    proto = graph.model(described, [(name, value, None) for name, value in outputs.items()])
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return lambda **inputs: dict(zip(outputs, session.run(None, inputs), strict=True))


@pytest.fixture(scope="session")
def graph_runner() -> Callable[..., Runner]:
    return runner
