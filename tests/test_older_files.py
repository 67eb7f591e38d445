"""Files that earlier versions wrote are read, and say what they said: one codes file and one model file of format 1.

Made of 24 training and 9 test images of the shipped sample and one broken one, with groups and splits, by ``cnncodes
extract labels.csv --image-size 64 --layer layer2 --layer penultimate --precision fp32 --views flip`` and ``cnncodes fit
--layer layer2 --layer penultimate``.

Two more codes files are of twelve images and a broken one, with small pictures. ``thumbnails`` has the earlier layout,
in which HDF5 keeps text in a heap and only codes have checksums; ``sealed`` has today's, in which digests vouch for
structure, ids and labels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cnncodes import CodesFile, ProbeModel, evaluate, load_codes, verify
from cnncodes.cli.main import main

FILES = Path(__file__).parent / "files"
CODES, MODEL = FILES / "codes-version-1.h5", FILES / "model-version-1.safetensors"
LAYERS = ["layer2", "penultimate"]
CLASSES = ["Bag", "Sandal", "Trouser"]


def test_a_codes_file_of_format_1_is_read():
    with CodesFile.open(CODES) as file:
        assert file.counts == {"pending": 0, "ok": 33, "failed": 1}
        assert (file.n, file.layers, file.views, file.classes) == (34, LAYERS, (2,), CLASSES)
        assert file.ids[0].startswith("train/Bag/")
        assert sorted(set(file.splits)) == ["test", "train"]
        assert np.flatnonzero(file.failed).tolist() == [33]
        assert file.groups[33] == "broken"
        assert not len(file.verify())
        assert file.good().all()
        assert file.provenance.weights_sha256.startswith("b0353104")
        assert file.provenance.preprocessing.image_size == 64
        assert file.info()["classes"] == {"Bag": 12, "Sandal": 11, "Trouser": 11}
    X, y = load_codes(CODES, "layer2", return_X_y=True)
    assert X.shape == (33, 2, 32)
    assert X[0, 0, :3] == pytest.approx([-0.6630859375, 0.10888671875, -0.03814697265625], abs=0)
    assert X.sum() == pytest.approx(-192.5438, abs=1e-3)
    assert np.unique(y).tolist() == CLASSES


@pytest.mark.parametrize(("layout", "sealed"), [("thumbnails", False), ("sealed", True)])
def test_both_layouts_of_a_codes_file_are_read(layout, sealed):
    path = FILES / f"codes-version-1-{layout}.h5"
    with CodesFile.open(path) as file:
        assert (file.sealed, file.damaged_columns(), len(file.verify())) == (sealed, [], 0)
        assert file.counts == {"pending": 0, "ok": 12, "failed": 1}
        assert (file.classes, file.layers) == (CLASSES, ["layer1", "layer2", "layer3"])
        assert file.ids[[0, 12]].tolist() == ["images/train/Bag/03523.png", "images/train/Bag/bröken.png"]
        assert file.groups[[2, 12]].tolist() == ["g1", "broken"]
        assert np.unique(file.splits).tolist() == ["test", "train"]
        assert file.errors[12].startswith("the PNG file is damaged")
        assert len(file.without_thumbnail()) == 0
        assert file.thumbnails(np.array([3]))["grey"].sum() == 97441
        assert file.codes("layer3").sum() == pytest.approx(23.729568, abs=1e-4)
        assert file.provenance.layers["layer2"].map_shape == (32, 8, 8)
    result = verify(path)
    assert (result.good, result.sealed, result.damaged_columns) == (True, sealed, [])


def test_a_model_file_of_format_1_answers_as_it_did():
    model = ProbeModel.load(MODEL)
    assert (model.classes, model.layers, model.clf, model.scale) == (CLASSES, LAYERS, "svm", "standard")
    assert pytest.approx(0.0017782794100389228, rel=1e-15) == model.C
    X = load_codes(CODES, LAYERS, split="test")
    assert model.predict(X).tolist() == [label for label in CLASSES for _ in range(3)]
    assert model.predict_proba(X)[0] == pytest.approx([0.343148768718565, 0.3277574319110684, 0.3290937993703667])
    assert model.novelty(X)[:2] == pytest.approx([0.92, 0.92])
    result = evaluate(CODES, model).to_dict()
    assert (result["n"], result["test_accuracy"]) == (9, 1.0)


def test_a_model_file_of_format_1_is_saved_again_as_it_was(tmp_path):
    ProbeModel.load(MODEL).save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == MODEL.read_bytes()


def test_the_command_line_reads_both():
    told = CliRunner().invoke(main, ["info", str(CODES), "--json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["ok"] == 33
    assert json.loads(told.stdout)["preprocessing"]["ignore_profiles"]
    told = CliRunner().invoke(main, ["info", str(MODEL), "--json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["preprocessing"]["ignore_profiles"]
    assert json.loads(told.stdout)["scores"]["cv_accuracy"] == pytest.approx(20 / 24)
