"""What each place adds: the exported file says the same as `ProbeModel.explain`."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from cnncodes import export
from cnncodes.exporting.evidence import evidence_sources
from cnncodes.models.explain import constants


@pytest.mark.parametrize("scale", ["shrunk", "standard", "l2", "none"])
@pytest.mark.parametrize("classes", [("blue", "green", "red"), ("blue", "red")])
def test_file_gives_what_each_place_adds(make_model, coloured, tmp_path, scale, classes):
    model = make_model(classes=classes, scale=scale)
    path = tmp_path / "model.onnx"
    export(model, path, evidence=True)
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    image = coloured.sources[0]
    got = dict(zip(names, session.run(None, {"images": image[None]}), strict=True))
    added = [got["evidence0"][0], got["evidence1"][0]]
    assert [len(one) for one in added] == [len(model.coef)] * 2
    total = sum(one.mean(axis=(1, 2)) for one in added) + constants(model)
    assert total == pytest.approx(got["decision"][0], abs=5e-3 * max(1, np.abs(constants(model)).max()))
    (told,) = model.explain([image], label="red", **({"against": "blue"} if len(classes) > 2 else {}))
    first, last = model.classes.index("blue"), model.classes.index("red")
    for one, layer in zip(added, model.layers, strict=True):
        contrast = one[0] if len(classes) == 2 else one[last] - one[first]
        scale_of_numbers = max(1, np.abs(told.maps[layer]).max())
        assert np.abs(contrast - told.maps[layer]).max() < 2e-3 * scale_of_numbers


def test_without_a_map_there_is_no_evidence(make_model, tmp_path):
    from cnncodes.networks.loading import load_backbone

    backbone = load_backbone("exported", "random")
    assert list(evidence_sources(backbone, make_model())) == ["layer3", "penultimate"]
    for extracted in ((("pooling", "max"),), (("views", "flip"),)):
        model = make_model(extracted=extracted)
        assert evidence_sources(backbone, model) == {}
    path = tmp_path / "model.onnx"
    export(model, path, evidence=True)
    names = [output.name for output in onnxruntime.InferenceSession(str(path)).get_outputs()]
    assert names == ["label", "probabilities", "decision", "novelty"]


def test_evidence_is_given_only_where_asked(model, tmp_path):
    path = tmp_path / "model.onnx"
    export(model, path)
    names = [output.name for output in onnxruntime.InferenceSession(str(path)).get_outputs()]
    assert names == ["label", "probabilities", "decision", "novelty"]
