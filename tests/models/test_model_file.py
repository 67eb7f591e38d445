"""Model files: what they hold, and that nothing else is loaded or overwritten."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as save_arrays

import cnncodes.models.model_file
from cnncodes.errors import (
    CnnCodesError,
    ModelFileError,
)
from cnncodes.models.model import ProbeModel
from cnncodes.models.model_file import FORMAT


def test_model_file_from_before_there_was_novelty_is_loaded_without_it(model, saved, tmp_path):
    def older(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        del arrays["training_codes"], arrays["class_means"], arrays["familiarity"]

    loaded = ProbeModel.load(forge(saved, tmp_path, older))
    assert loaded.novelty(np.zeros((2, 40))) is None
    assert not loaded.same_as(model)
    np.testing.assert_array_equal(loaded.coef, model.coef)
    loaded.save(tmp_path / "again.safetensors")
    assert ProbeModel.load(tmp_path / "again.safetensors").same_as(loaded)


def test_arrays_that_are_not_contiguous_are_saved_right(model, tmp_path):
    turned = copy.copy(model)
    turned.coef, turned.mean = np.asfortranarray(model.coef), np.repeat(model.mean, 2)[::2]
    turned.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(ProbeModel.load(tmp_path / "model.safetensors").coef, model.coef)


def test_same_model_gives_the_same_bytes_and_leaves_nothing_beside(model, saved, tmp_path):
    model.save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == saved.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_save_that_does_not_read_back_keeps_the_old_file(model, saved, tmp_path, monkeypatch):
    target = tmp_path / "model.safetensors"
    target.write_bytes(old := saved.read_bytes())
    monkeypatch.setattr(cnncodes.models.model_file, "same_model", lambda one, other: False)
    with pytest.raises(ModelFileError, match="does not read back"):
        model.save(target)
    assert target.read_bytes() == old
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("value", [np.nan, {1, 2}, np.float32(1)], ids=["nan", "set", "numpy"])
def test_scores_that_are_no_json_are_not_saved(value, model, tmp_path):
    broken = copy.copy(model)
    broken.scores = replace(model.scores, baseline_accuracy=value)
    with pytest.raises(ModelFileError, match="what JSON cannot"):
        broken.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_named(model, tmp_path):
    for target in (tmp_path / "missing" / "model.safetensors", tmp_path):
        with pytest.raises(CnnCodesError, match="cannot be written"):
            model.save(target)
    assert list(tmp_path.iterdir()) == []


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("exploded",)


def test_file_of_another_kind_is_refused_and_nothing_in_it_is_run(split_codes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {
        "empty": b"",
        "text": b"hello\n" * 100,
        "pickle": pickle.dumps(Bomb()),
        "codes": split_codes.read_bytes(),
        "tensors": save_arrays({"coef": np.zeros(3)}),
        "length": struct.pack("<Q", 2**63) + b"{}",
        "nesting": save_arrays({"coef": np.zeros(3)}, metadata={FORMAT: "[" * 100_000}),
    }
    for name, content in contents.items():
        Path(name).write_bytes(content)
        with pytest.raises(ModelFileError, match=f"{name}: not a model file"):
            ProbeModel.load(name)
    assert not Path("exploded").exists()


def test_path_that_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo"):
        with pytest.raises(ModelFileError, match=r"no such model file; .*cnncodes fit"):
            ProbeModel.load(path)


def test_model_file_that_cannot_be_read_says_why(saved, monkeypatch):
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelFileError, match=r"model.safetensors: cannot be read \(Permission denied\)$"):
        ProbeModel.load(saved)


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_file_is_an_error_or_the_same_model(count, model, saved, tmp_path):
    content = saved.read_bytes()
    header_ends = 8 + struct.unpack("<Q", content[:8])[0]
    rng = np.random.default_rng(0)
    path = tmp_path / "model.safetensors"
    equal = 0
    for _ in range(count):
        mutated = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            at = rng.integers(header_ends if rng.random() < 0.7 else len(content))
            mutated[at] = rng.integers(256)
        if rng.random() < 0.1:
            mutated = mutated[: rng.integers(len(mutated))]
        path.write_bytes(mutated)
        with contextlib.suppress(ModelFileError):  # and no other error
            assert ProbeModel.load(path).same_as(model)
            equal += 1
    assert equal < count / 50


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], Any]


def put(*path: Any) -> Change:
    """Return a change that puts the last argument at the place in the header that the others name."""
    *way, last, value = path

    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        at: Any = header
        for key in way:
            at = at[key]
        at[last] = value

    return change


def drop(*path: str) -> Change:
    *way, last = path

    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        at = header
        for key in way:
            at = at[key]
        del at[last]

    return change


def array(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda header, arrays: arrays.__setitem__(name, make(arrays[name]))


FORGERIES: dict[str, Change] = {
    "another format": put("format", "cnncodes-codes"),
    "a later version": put("format_version", 2),
    "a version that is no int": put("format_version", True),
    "a field too many": put("command", "rm"),
    "a field too few": drop("trained_on"),
    "an unknown classifier": put("clf", "forest"),
    "an unknown scaling": put("scale", "minmax"),
    "a scaling that is no text": put("scale", ["standard"]),
    "C that is no float": put("C", 1),
    "C of 0": put("C", 0.0),
    "a negative temperature": put("temperature", -1.0),
    "one class": put("classes", ["a"]),
    "a class twice": put("classes", ["digit 0"] * 10),
    "a class that is no text": put("classes", 0, 7),
    "classes out of order": lambda header, arrays: header["classes"].reverse(),
    "a class too few": lambda header, arrays: header["classes"].pop(),
    "no layer": put("layers", []),
    "an unknown layer": put("layers", ["layer9"]),
    "a note that is no text": put("notes", [{}]),
    "a digest that is none": put("trained_on", "../../x"),
    "a count that is none": put("scores", "n", "many"),
    "an interval of one end": put("scores", "cv_interval", [0.5]),
    "an accuracy too few": drop("scores", "test_accuracy"),
    "an unknown score": put("scores", "loss", 0.5),
    "no backbone": drop("description", "backbone"),
    "no layers in the description": put("description", "layers", []),
    "a layer that is no table": put("description", "layers", "penultimate", None),
    "a code length that is no int": put("description", "layers", "penultimate", "n_features", 40.0),
    "another code length": put("description", "layers", "penultimate", "n_features", 39),
    "a huge code length": put("description", "layers", "penultimate", "n_features", 10**30),
    "a digest of weights that is none": put("description", "weights_sha256", "AB" * 32),
    "no preprocessing": put("description", "preprocessing", {}),
    "two means": put("description", "preprocessing", "mean", [0.5, 0.5]),
    "a mean that is no number": put("description", "preprocessing", "mean", [0.5, 0.5, "x"]),
    "a huge batch": put("description", "runtime", "batch_size", 10**9),
    "a huge image": put("description", "preprocessing", "image_size", 10**6),
    "unknown views": put("description", "preprocessing", "views", "11crop"),
    "views that are no text": put("description", "preprocessing", "views", ["flip"]),
    "ten views of a large batch": lambda header, arrays: header["description"].update(
        preprocessing={**header["description"]["preprocessing"], "resize": 256, "views": "10crop"},
        runtime={"device": "cpu", "batch_size": 2000},
    ),
    "an image of nothing": put("description", "preprocessing", "image_size", 0),
    "a device that is no text": put("description", "runtime", "device", None),
    "float32 coefficients": array("coef", lambda a: a.astype(np.float32)),
    "integer coefficients": array("coef", lambda a: a.astype(np.int64)),
    "turned coefficients": array("coef", lambda a: np.ascontiguousarray(a.T)),
    "a coefficient too few": array("coef", lambda a: np.ascontiguousarray(a[:, 1:])),
    "nan": array("coef", lambda a: np.where(np.arange(a.size).reshape(a.shape) == 5, np.nan, a)),
    "an infinite mean": array("mean", lambda a: np.full_like(a, np.inf)),
    "a deviation of 0": array("deviation", np.zeros_like),
    "an array too few": lambda header, arrays: arrays.pop("intercept"),
    "class means without familiarity": lambda header, arrays: arrays.pop("familiarity"),
    "familiarity without class means": lambda header, arrays: arrays.pop("class_means"),
    "training codes without class means": lambda header, arrays: arrays.pop("class_means"),
    "a training code too few": array("training_codes", lambda a: a[1:]),
    "float32 training codes": array("training_codes", lambda a: a.astype(np.float32)),
    "turned training codes": array("training_codes", lambda a: np.ascontiguousarray(a.T)),
    "a training code that is not finite": array("training_codes", lambda a: np.full_like(a, np.nan)),
    "a class mean too few": array("class_means", lambda a: a[1:]),
    "turned class means": array("class_means", lambda a: np.ascontiguousarray(a.T)),
    "a class mean that is not finite": array("class_means", lambda a: np.full_like(a, np.nan)),
    "float32 class means": array("class_means", lambda a: a.astype(np.float32)),
    "familiarity of nothing": array("familiarity", lambda a: a[:0]),
    "familiarity in two axes": array("familiarity", lambda a: a[None]),
    "too much familiarity": array("familiarity", lambda a: np.linspace(0, 1, 1001)),
    "familiarity out of order": array("familiarity", lambda a: np.ascontiguousarray(a[::-1])),
    "familiarity above 1": array("familiarity", lambda a: a + 1),
    "familiarity that is not finite": array("familiarity", lambda a: np.where(a == a[-1], np.nan, a)),
    "an array too many": lambda header, arrays: arrays.__setitem__("extra", np.zeros(1)),
}


def test_checksum_alone_accepts_what_is_as_it_should_be(model, saved, tmp_path):
    assert ProbeModel.load(forge(saved, tmp_path, lambda header, arrays: None)).same_as(model)


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_file_with_another_schema_is_refused_even_with_a_right_checksum(change, saved, tmp_path):
    with pytest.raises(ModelFileError, match="not a model file, or damaged") as caught:
        ProbeModel.load(forge(saved, tmp_path, change))
    assert "checksum" not in str(caught.value)


def forge(saved: Path, folder: Path, change: Change) -> Path:
    with safe_open(saved, framework="np") as file:
        header = json.loads(file.metadata()[FORMAT])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, arrays)
    header["checksum"] = cnncodes.models.model_file._checksum(header, arrays)
    path = folder / "forged.safetensors"
    path.write_bytes(save_arrays(arrays, metadata={FORMAT: json.dumps(header)}))
    return path


def test_numbers_that_are_no_json_are_refused(saved, tmp_path):
    with safe_open(saved, framework="np") as file:
        text = file.metadata()[FORMAT]
    assert '"C": 0.01' in text
    for number in ("NaN", "Infinity", "1e999"):
        path = tmp_path / "model.safetensors"
        path.write_bytes(
            save_arrays({"coef": np.zeros(1)}, metadata={FORMAT: text.replace('"C": 0.01', f'"C": {number}')})
        )
        with pytest.raises(ModelFileError):
            ProbeModel.load(path)


def test_model_file_never_takes_the_place_of_another_file(model, pair_codes, tmp_path):
    for name, content in (("codes.h5", pair_codes.read_bytes()), ("notes.txt", b"all my notes")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CnnCodesError, match="is there and not a model file"):
            model.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    (tmp_path / "empty").touch()
    model.save(tmp_path / "empty")
