"""A model goes to one ONNX file, which answers as the model does, or does not appear."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from cnncodes import CnnCodesError, export, load_backbone, predict
from cnncodes.errors import ExportError, MissingLibraryError, SettingError
from cnncodes.exporting import answers as answers_module
from cnncodes.exporting import export as module
from cnncodes.models.tuned import Tuned


def run(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def test_file_answers_as_predict_does(model, coloured, tmp_path):
    path = tmp_path / "model.onnx"
    exported = export(model, path)
    assert exported.n_bytes == path.stat().st_size
    assert exported.parity.native_difference <= 1e-5 + exported.parity.rounding
    assert exported.parity.resized_difference <= 1e-3
    assert exported.parity.n_same_labels == exported.parity.n_images
    images = [*coloured.sources[:3], coloured.sources[-1][:30, 5:17], np.zeros((90, 200, 3), np.uint8)]
    for image, expected in zip(images, predict(images, model), strict=True):
        got = run(path, image[None])
        assert model.classes[int(got["label"][0])] == expected.guess
        assert got["probabilities"].max() == pytest.approx(expected.probability, abs=1e-4)
        assert got["novelty"][0] == pytest.approx(expected.novelty, abs=1.5 / len(model.familiarity))
        assert got["decision"].shape == got["probabilities"].shape == (1, 3)


def test_file_says_what_it_is(model, tmp_path):
    path = tmp_path / "model.onnx"
    export(model, path)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    (taken,) = proto.graph.input
    assert [axis.dim_param or axis.dim_value for axis in taken.type.tensor_type.shape.dim] == [
        "n",
        "height",
        "width",
        3,
    ]
    told = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(told["classes"]) == model.classes
    assert told["licence"] == "unknown"
    provenance = json.loads(told["provenance"])
    assert provenance["backbone"] == "exported"
    assert provenance["weights_sha256"] == model.provenance.weights_sha256
    assert json.loads(told["scores"])["cv_accuracy"] == model.scores.to_dict()["cv_accuracy"]
    content = path.read_bytes()
    assert str(Path(module.__file__).parent).encode() not in content, "paths of this machine are none of its business"
    assert b"site-packages" not in content


def test_same_model_gives_the_same_bytes(model, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        export(model, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_an_export_that_answers_otherwise_is_an_error_and_leaves_no_file(model, tmp_path, monkeypatch):
    add = answers_module.add_answers
    wrong = replace(model, intercept=model.intercept + [0.01, 0, 0])
    monkeypatch.setattr(
        module, "add_answers", lambda graph, codes, _, *rest, **options: add(graph, codes, wrong, *rest, **options)
    )
    with pytest.raises(ExportError, match="answers otherwise than the model"):
        export(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_older_export_stays_if_the_new_one_fails(model, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    export(model, path)
    old = path.read_bytes()
    monkeypatch.setattr(module, "add_stored", lambda codes: codes + 0.05)
    with pytest.raises(ExportError, match="answers otherwise"):
        export(model, path)
    assert path.read_bytes() == old


def test_files_of_others_stay(model, tmp_path):
    path = tmp_path / "model.onnx"
    for content in (b"important", onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])).SerializeToString()):
        path.write_bytes(content)
        with pytest.raises(CnnCodesError, match="not an ONNX file that cnncodes wrote"):
            export(model, path)
        assert path.read_bytes() == content
    export(model, path, overwrite=True)
    export(model, path)


@pytest.mark.slow
def test_fine_tuned_network_is_the_one_that_is_exported(model, coloured, tmp_path):
    name = "layer3.0.weight"
    weight = load_backbone("exported").module.state_dict()[name].numpy()
    record = {"first": "layer3", "below": "layer2", "epochs": 1, "share": 1.0, "probe_accuracy": 0.5, "gain": 0.1}
    tuned = Tuned.from_dict({**record, "gain_interval": [0.0, 0.2], "seed": 0})
    tuned_model = replace(model, tuned=tuned, tensors={name: -2 * weight})
    export(tuned_model, tmp_path / "tuned.onnx")
    image = coloured.sources[0]
    got = run(tmp_path / "tuned.onnx", image[None])["probabilities"][0]
    assert got.max() == pytest.approx(predict([image], tuned_model)[0].probability, abs=1e-4)
    export(model, tmp_path / "model.onnx")
    assert np.abs(got - run(tmp_path / "model.onnx", image[None])["probabilities"][0]).max() > 1e-3
    told = {entry.key: entry.value for entry in onnx.load(tmp_path / "tuned.onnx").metadata_props}
    assert json.loads(told["provenance"])["tuned"]["first"] == "layer3"


def test_codes_of_lower_precision_are_noted(model, tmp_path):
    lower = replace(model, provenance=replace(model.provenance, precision="bf16"))
    assert "bf16" in export(lower, tmp_path / "model.onnx").notes[-1]


def test_no_such_type(model, tmp_path):
    with pytest.raises(SettingError, match=r"no dtype 'fp16'.*There are float32, float16"):
        export(model, tmp_path / "model.onnx", dtype="fp16")


def test_without_the_extra_it_is_said_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'cnncodes\[onnx\]'"):
        export(model, tmp_path / "model.onnx")
