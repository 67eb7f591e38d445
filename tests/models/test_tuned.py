"""The record of fine-tuning, and the tensors that a model file may hold beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tuned_models import RECORD, forge

from cnncodes.errors import MismatchError, ModelFileError
from cnncodes.models.model import ProbeModel
from cnncodes.models.model_file import FORMAT
from cnncodes.models.tuned import Tuned


@pytest.fixture
def tuned_file(model: ProbeModel, tmp_path: Path) -> Path:
    from dataclasses import replace

    tensors = {"layer4.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "scale": np.float32([[1]])}
    path = tmp_path / "tuned.safetensors"
    replace(model, tuned=Tuned.from_dict(RECORD), tensors=tensors).save(path)
    return path


def test_record_and_tensors_come_back(tuned_file, model):
    loaded = ProbeModel.load(tuned_file)
    assert loaded.tuned == Tuned.from_dict(RECORD)
    assert loaded.tensors["layer4.0.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded.info()["tuned"] == {**RECORD, "parameters": 7}
    assert not loaded.same_as(model)
    assert repr(model).startswith(
        "ProbeModel('svm' on 'penultimate' of 'tiny', 10 classes, cross-validated accuracy 0."
    )
    assert repr(loaded) == repr(model).replace("'tiny'", "'tiny', fine-tuned from 'layer4'")
    assert (model.about.keys() ^ loaded.about.keys(), loaded.about["tuned_from"]) == ({"tuned_from"}, "layer4")
    loaded.save(tuned_file.with_name("again.safetensors"))
    assert tuned_file.with_name("again.safetensors").read_bytes() == tuned_file.read_bytes()
    assert ProbeModel.load(forge(tuned_file)).same_as(loaded)


def test_model_that_is_not_tuned_has_no_such_field(saved):
    with safe_open(saved, framework="np") as file:
        assert "tuned" not in json.loads(file.metadata()[FORMAT])
    assert ProbeModel.load(saved).tuned is None
    assert "tuned" not in ProbeModel.load(saved).info()


@pytest.mark.parametrize(
    "arrays",
    [
        {"tuned/layer4.0.weight": np.zeros((2, 3))},
        {"tuned/layer4.0.weight": np.float32([np.nan])},
        {"tuned/layer4.0.weight": np.float32([np.inf])},
        {"tuned/layer4.0.weight": np.zeros((2, 3), np.float16)},
        {"tuned/": np.zeros(1, np.float32)},
        {"tuned/../x": np.zeros(1, np.float32)},
        {"tuned/a..b": np.zeros(1, np.float32)},
        {"tuned/" + "a." * 40 + "a": np.zeros(1, np.float32)},
        {"tuned/\x1b[31m": np.zeros(1, np.float32)},
        {"other/weight": np.zeros(1, np.float32)},
    ],
)
def test_tensors_that_cannot_be_are_refused(arrays, tuned_file):
    with pytest.raises(ModelFileError, match="not a model file, or damaged"):
        ProbeModel.load(forge(tuned_file, arrays=arrays))


def test_tensors_without_a_record_are_refused(tuned_file):
    with pytest.raises(ModelFileError, match="other arrays"):
        ProbeModel.load(forge(tuned_file, {"tuned": "gone"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("share", 0.0), ("share", 1.5), ("share", 1), ("share", None), ("epochs", -1), ("epochs", True)),
        *(("gain", "much"), ("gain_interval", [0.1]), ("gain_interval", 0.1), ("probe_accuracy", 2.0), ("first", 4)),
    ],
)
def test_record_that_cannot_be_is_refused(name, value, tuned_file):
    with pytest.raises(ModelFileError, match=rf"tuned\.{name}"):
        ProbeModel.load(forge(tuned_file, {"tuned": {**RECORD, name: value}}))


def test_record_that_lacks_a_field_or_is_none_is_refused(tuned_file):
    with pytest.raises(ModelFileError, match=r"tuned\.gain is missing"):
        ProbeModel.load(forge(tuned_file, {"tuned": {name: RECORD[name] for name in RECORD if name != "gain"}}))
    with pytest.raises(ModelFileError, match="tuned is None"):
        ProbeModel.load(forge(tuned_file, {"tuned": None}))


def test_codes_of_the_network_as_it_was_are_refused(tuned_file, split_codes, model):
    tuned = ProbeModel.load(tuned_file)
    with pytest.raises(MismatchError, match="before it was fine-tuned"):
        tuned.check_codes(model.provenance, "codes.h5")


def test_fewer_images_may_be_held_out_than_are_kept_of_a_fine_tuned_network(tuned_file, saved):
    familiarity = ProbeModel.load(tuned_file).familiarity
    model = ProbeModel.load(forge(tuned_file, arrays={"familiarity": familiarity[:7]}))
    assert (len(model.familiarity), len(model.training_codes)) == (7, len(familiarity))
    assert model.novelty(model.training_codes).max() <= 7 / 8
    for path, array in (
        (tuned_file, np.append(familiarity, 1.0)),
        (tuned_file, familiarity[:0]),
        (tuned_file, familiarity[::-1]),
        (saved, familiarity[:7]),
    ):
        with pytest.raises(ModelFileError, match="familiarity"):
            ProbeModel.load(forge(path, arrays={"familiarity": array}))
