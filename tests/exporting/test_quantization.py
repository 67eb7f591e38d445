"""The network in int8, and the probe that is fitted to it."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnxruntime
import pytest

from cnncodes import ImageSet, ProbeModel, export
from cnncodes.errors import SettingError
from cnncodes.exporting.quantization import Cost, _no_advice


@pytest.mark.parametrize("settings", [{"dtype": "int8"}, {"images": "photos/"}])
def test_int8_goes_with_images(settings, model, tmp_path):
    with pytest.raises(SettingError, match="goes with int8, and with int8 alone"):
        export(model, tmp_path / "model.onnx", **settings)


def test_only_advice_of_the_quantiser_is_left_out(caplog):
    with _no_advice(), caplog.at_level(logging.WARNING):
        logging.getLogger().warning("Please consider to run pre-processing before quantization.")
        logging.getLogger().warning("another warning")
    logging.getLogger().warning("Please consider pre-processing before quantization.")
    assert [record.getMessage() for record in caplog.records][-2:] == [
        "another warning",
        "Please consider pre-processing before quantization.",
    ]
    assert len(caplog.records) == 2


def test_loss_is_what_the_accuracy_loses():
    assert Cost(10, 0.8, 0.9, (0.0, 0.2)).loss == pytest.approx(0.1)


@pytest.mark.slow
def test_network_computes_in_int8_and_the_probe_fits_it(coloured: ImageSet, model: ProbeModel, tmp_path) -> None:
    path = tmp_path / "model.onnx"
    exported = export(model, path, dtype="int8", images=coloured)
    cost = exported.cost
    assert cost is not None
    assert cost.n == len(coloured)
    assert cost.float_accuracy == model.scores.cross_validated.accuracy.value
    assert abs(cost.loss) < 0.2
    assert cost.loss_interval[0] < cost.loss < cost.loss_interval[1]
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert "QuantizeLinear" in kinds
    session = onnxruntime.InferenceSession(str(path))
    right = [
        model.classes[int(session.run(["label"], {"images": image[None]})[0][0])] == label
        for image, label in zip(coloured.sources, coloured.labels or [], strict=True)
    ]
    assert np.mean(right) >= cost.accuracy - 0.1
