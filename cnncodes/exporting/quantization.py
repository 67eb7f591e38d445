"""Quantises a translated network to int8, and fits the probe again to the codes that it then gives."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnncodes.codes.writer import CodesWriter
from cnncodes.exporting.equalisation import equalise, groups, weight_scales
from cnncodes.exporting.session import open_session
from cnncodes.extraction.engine import LocalEngine
from cnncodes.extraction.fill import fill
from cnncodes.extraction.in_memory import in_memory
from cnncodes.extraction.settings import describe_network
from cnncodes.extraction.stamps import image_table
from cnncodes.images.image_set import ImageSet
from cnncodes.models.fit import fit
from cnncodes.models.model import ProbeModel
from cnncodes.networks.backbone import Backbone
from cnncodes.probes.intervals import paired_interval
from cnncodes.probes.protocol import TrainingData
from cnncodes.probes.search import grid_of
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.plan import Plan
from cnncodes.system.optional import require
from cnncodes.vocabulary import AUTO

__all__ = ["Cost", "QuantizedNetwork", "quantized", "refit"]

N_CALIBRATION = 200  # images whose activations give the ranges
FLOAT_SHARE, MIN_FLOAT = 10, 2  # one in ten convolutions stays in float32: the first, small ones, where rounding harms


class QuantizedNetwork(FrozenNetwork):
    """A network whose codes onnxruntime computes, from a translated and quantised one.

    Parameters
    ----------
    backbone : Backbone
    plan : Plan
        The plan of the network as it was before.
    model : onnx.ModelProto
        From ``squares`` to the codes of `layers`.
    layers : sequence of str
    """

    def __init__(self, backbone: Backbone, plan: Plan, model: Any, layers: Sequence[str]) -> None:
        super().__init__(backbone, plan)
        self.session, self.names = open_session(model.SerializeToString()), list(layers)

    def unrounded(self, pixels: torch.Tensor, replica: int = 0) -> dict[str, np.ndarray]:
        """Return float32 codes of pixels (n, 3, S, S), before they are rounded to the type of their layer."""
        squares = self.backbone.preprocessing.normalise(pixels).contiguous().numpy()
        return dict(zip(self.names, self.session.run(None, {"squares": squares}), strict=True))

    def warm_up(self, n_images: int | None = None) -> None:
        """Do nothing: the session is ready."""


class _Recorder(FrozenNetwork):
    """A network that keeps what enters it."""

    def __init__(self, backbone: Backbone, plan: Plan) -> None:
        super().__init__(backbone, plan)
        self.squares: list[np.ndarray] = []

    def unrounded(self, pixels: torch.Tensor, replica: int = 0) -> dict[str, np.ndarray]:
        self.squares += list(self.backbone.preprocessing.normalise(pixels).contiguous().numpy())
        return super().unrounded(pixels, replica)

    def warm_up(self, n_images: int | None = None) -> None:
        """Do nothing: it would try the network on other images."""


@dataclass(frozen=True)
class Cost:
    """What quantising costs, with the probe fitted again.

    Attributes
    ----------
    n : int
        Images that both probes were cross-validated on.
    accuracy, float_accuracy : float
        Cross-validated accuracy with quantised codes, and with those of the network as it was.
    loss_interval : tuple of float
        95 % interval of the difference of the two, paired by images.
    """

    n: int
    accuracy: float
    float_accuracy: float
    loss_interval: tuple[float, float]

    @property
    def loss(self) -> float:
        """What the accuracy loses."""
        return self.float_accuracy - self.accuracy


def quantized(model: Any, network: FrozenNetwork, images: ImageSet) -> Any:
    """Quantise a translated network statically: weights by channel, activations by their range on some images.

    Parameters
    ----------
    model : onnx.ModelProto
        What was translated of `network`; its channels are equalised in place.
    network : FrozenNetwork
    images : ImageSet
        Images like those that are to come; 200 of them are taken, evenly spaced.

    Returns
    -------
    onnx.ModelProto
    """
    quantization, onnx = require("onnxruntime.quantization", "export"), require("onnx", "export")
    recorder = _Recorder(network.backbone, network.plan)
    rows = np.unique(np.linspace(0, len(images) - 1, min(N_CALIBRATION, len(images))).astype(int))
    in_memory(images.take(rows.tolist()), recorder)
    equalise(model, recorder.squares)
    squares = iter(recorder.squares)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined,misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            square = next(squares, None)
            return None if square is None else {"squares": square[None]}

    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    n_float = max(MIN_FLOAT, len(convolutions) // FLOAT_SHARE)
    steps = _weight_steps(model, convolutions[n_float:])
    with tempfile.TemporaryDirectory() as folder, _no_advice():
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        quantization.quantize_static(
            str(before),
            str(after),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,  # of other weights than those of `steps`: sums of 8-bit products may overflow
            nodes_to_exclude=[node.name for node in convolutions[:n_float]],
            extra_options={"TensorQuantOverrides": steps},
        )
        return onnx.load(after)


def _weight_steps(model: Any, convolutions: Sequence[Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the steps of the weights of convolutions, channel by channel, as the quantiser takes them."""
    onnx, quantization = require("onnx", "export"), require("onnxruntime.quantization", "export")
    weights = {one.name: one for one in model.graph.initializer}
    steps: dict[str, list[dict[str, Any]]] = {}
    for name, n_groups in ((node.input[1], groups(node)) for node in convolutions if node.input[1] in weights):
        scales = weight_scales(onnx.numpy_helper.to_array(weights[name]), n_groups)
        steps[name] = [{"scale": np.float32(one), "zero_point": np.int8(0)} for one in scales]
        steps[name][0] |= {"axis": 0, "quant_type": quantization.QuantType.QInt8}
    return steps


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Let the quantiser not advise, through the root logger, to prepare a model that is prepared already."""

    def has_none(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(has_none)
    try:
        yield
    finally:
        root.removeFilter(has_none)


def refit(
    model: ProbeModel, images: ImageSet, network: FrozenNetwork, quantised: FrozenNetwork
) -> tuple[ProbeModel, Cost]:
    """Fit the probe of a model again to the codes of its network quantised, and compare both by cross-validation.

    Parameters
    ----------
    model : ProbeModel
    images : ImageSet
        With labels.
    network, quantised : FrozenNetwork
        The network of the model, and the same quantised.

    Returns
    -------
    ProbeModel
        With the probe of the quantised codes.
    Cost
    """
    with tempfile.TemporaryDirectory() as folder:
        _, plain = _fitted(model, images, network, Path(folder) / "float32.h5")
        fitted, right = _fitted(model, images, quantised, Path(folder) / "int8.h5")
    rows = sorted(plain.keys() & right.keys())
    a, b = (np.array([answers[row] for row in rows], float) for answers in (plain, right))
    return fitted, Cost(len(rows), float(b.mean()), float(a.mean()), paired_interval(a, b))


def _fitted(
    model: ProbeModel, images: ImageSet, network: FrozenNetwork, path: Path
) -> tuple[ProbeModel, dict[int, bool]]:
    """Fit a probe to the codes of a network, as a model was; also return which rows were labelled right out of fold."""
    CodesWriter.create(path, image_table(images), describe_network(network), thumbnails=True)
    with CodesWriter(path) as writer:
        fill(writer, images, np.arange(len(images)), LocalEngine(network))
    scores = model.scores
    Cs = AUTO if scores.C_searched else model.C
    settings: dict[str, Any] = {"clf": model.clf, "scale": model.scale, "class_weight": scores.class_weight}
    settings |= {"cv": scores.cv, "seed": scores.seed}
    with TrainingData.open(path) as data:
        fitted = fit(data, layers=model.layers, C=Cs, **settings)
        groups = data.guard().groups
        scored = data.scorable(groups)
        rows = data.train[scored.rows]
        search = data.search(model.layers, Cs=grid_of(Cs), groups=groups[scored.rows], rows=rows, **settings)
        return fitted, dict(zip(rows.tolist(), (search.predictions == data.file.labels[rows]).tolist(), strict=True))
