"""Fitted models: what they decide, what their files hold and refuse, and how they meet codes and images."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import struct
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digit_codes import DESCRIPTION, LAYERS, X_DIGITS, Y_DIGITS, names, write_codes
from safetensors import safe_open
from safetensors.numpy import save as save_arrays
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.svm import LinearSVC

import cnncodes.models.model
import cnncodes.models.model_file
import cnncodes.probes.out_of_core
from cnncodes.codes.file import CodesFile
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import (
    CnnCodesError,
    CodesFileError,
    MismatchError,
    ModelFileError,
    ProbeError,
    SettingError,
    ShapeError,
)
from cnncodes.extraction.extract import extract
from cnncodes.models.evaluate import evaluate
from cnncodes.models.fit import fit
from cnncodes.models.model import ProbeModel
from cnncodes.models.model_file import FORMAT

N_TRAIN, N_TEST = 240, 160
WEIGHTS = {"mobilenet_v2": None, "squeezenet1_1": "random"}


@pytest.fixture(scope="module")
def split_codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes, with a train and a test split."""
    rows = np.arange(N_TRAIN + N_TEST)
    path = tmp_path_factory.mktemp("split") / "codes.h5"
    return write_codes(path, rows, names(rows), ["train"] * N_TRAIN + ["test"] * N_TEST)


@pytest.fixture(scope="module")
def pair_codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that are not told apart perfectly, without a split."""
    rows = np.flatnonzero(np.isin(Y_DIGITS, [1, 8]))[:120]
    return write_codes(tmp_path_factory.mktemp("pair") / "codes.h5", rows, names(rows))


@pytest.fixture(scope="module")
def model(split_codes: Path) -> ProbeModel:
    return fit(split_codes, C=0.01)


@pytest.fixture(scope="module")
def saved(model: ProbeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(path)
    return path


def codes_of(path: Path, layers: Any, split: str | None) -> tuple[np.ndarray, np.ndarray]:
    with CodesFile.open(path) as file:
        rows = file.rows(split)
        return file.codes(layers, rows), file.labels[rows]


def plain(clf: str, C: float, scale: str = "standard"):
    scaler = {"standard": StandardScaler, "l2": Normalizer, "none": FunctionTransformer}[scale]()
    if clf == "svm":
        return make_pipeline(scaler, LinearSVC(C=C, tol=1e-9, max_iter=100_000, dual=False))
    return make_pipeline(scaler, LogisticRegression(C=C, tol=1e-7, max_iter=10_000))


# -------------------------------------------------------------------------------------------------------------- fitting


@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_scores_are_those_of_plain_scikit_learn(clf, split_codes):
    model = fit(split_codes, clf=clf, layers=["penultimate", "layer1"], C=0.01)
    X, y = codes_of(split_codes, ["penultimate", "layer1"], "train")
    X_test, y_test = codes_of(split_codes, ["penultimate", "layer1"], "test")
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    expected = np.mean(cross_val_predict(plain(clf, 0.01), X, y, cv=folds) == y)
    assert model.scores["cv_accuracy"] == pytest.approx(expected, abs=1.01 / N_TRAIN)
    expected = plain(clf, 0.01).fit(X, y).score(X_test, y_test)
    assert model.scores["test_accuracy"] == pytest.approx(expected, abs=1.01 / N_TEST)
    assert model.scores["baseline_accuracy"] == max(Counter(y.tolist()).values()) / N_TRAIN


def test_scores_have_the_keys_scripts_rely_on(model):
    promised = {"n", "classes", "clf", "layers", "C", "cv_accuracy", "cv_interval", "baseline_accuracy", "seconds"}
    assert promised | {"test_accuracy", "test_interval", "protocol"} <= model.scores.keys()
    assert json.loads(json.dumps(model.scores.to_dict(), allow_nan=False)) == model.scores
    assert model.scores["n"] == N_TRAIN
    low, high = model.scores["cv_interval"]
    assert low < model.scores["cv_accuracy"] < high
    assert "95 %" in model.scores["protocol"]


def test_without_a_split_all_rows_train_and_nothing_is_held_out(pair_codes):
    model = fit(pair_codes, C=0.01)
    assert model.scores["n"] == 120
    assert "test_accuracy" not in model.scores


def test_C_is_searched_unless_it_is_given(pair_codes):
    searched, given = fit(pair_codes), fit(pair_codes, C=0.5)
    assert searched.scores["cv_accuracy"] >= given.scores["cv_accuracy"]
    assert given.C == 0.5
    assert "flatters" in searched.scores["protocol"]
    assert "was given" in given.scores["protocol"]


def test_same_seed_gives_the_same_model_and_another_one_other_folds(pair_codes):
    first, again, other = fit(pair_codes, C=1.0), fit(pair_codes, C=1.0), fit(pair_codes, C=1.0, seed=1)
    np.testing.assert_array_equal(first.coef, again.coef)
    np.testing.assert_array_equal(first.coef, other.coef)
    assert first.temperature == again.temperature != other.temperature


BAD = np.arange(20)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ({"labels": ["a"] * 20}, {}, "one class only, 'a'"),
        ({"labels": ["a"] * 19 + ["b"]}, {}, "the class 'b' has one image only"),
        ({"labels": None}, {}, "no labels"),
        ({"labels": ["a", "b"] * 10, "done": 15}, {}, "5 of 20 images are not extracted yet"),
        ({"labels": ["a", "b"] * 10}, {"layers": "penultimat"}, "Did you mean 'penultimate'?"),
        ({"labels": ["a", "b"] * 10}, {"clf": "svn"}, "Did you mean 'svm'?"),
    ],
)
def test_what_cannot_be_fitted_is_one_line_that_says_what_to_do(arguments, options, message, tmp_path):
    path = write_codes(tmp_path / "codes.h5", BAD, **arguments)
    with pytest.raises((ProbeError, CodesFileError, SettingError)) as caught:
        fit(path, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_that_failed_are_left_out_with_a_note(tmp_path):
    rows = np.arange(60)
    path = write_codes(tmp_path / "codes.h5", rows, ["a", "b"] * 30, failed=(3, 8))
    model = fit(path, C=0.1)
    assert model.scores["n"] == 58
    assert any("2 images" in note for note in model.notes)


# ------------------------------------------------------------------------------------------------------------ decisions


@pytest.mark.parametrize("scale", ["standard", "l2", "none"])
@pytest.mark.parametrize("clf", ["svm", "logreg"])
@pytest.mark.parametrize("codes", ["split_codes", "pair_codes"])
def test_decisions_are_those_of_scikit_learn(clf, scale, codes, request):
    path = request.getfixturevalue(codes)
    model = fit(path, clf=clf, scale=scale, C=0.01, cv=2)
    X, y = codes_of(path, "penultimate", "train" if codes == "split_codes" else None)
    ours = model.decision_function(X)
    exported = model.to_sklearn()
    np.testing.assert_allclose(ours, exported.decision_function(X.astype(float)).reshape(ours.shape), rtol=1e-10)
    assert model.predict(X).tolist() == exported.predict(X.astype(float)).tolist()
    X = X.astype(float)  # in float32, scikit-learn's logistic regression stops early
    expected = plain(clf, 0.01, scale).fit(X, y).decision_function(X).reshape(ours.shape)
    np.testing.assert_allclose(ours, expected, atol=3e-3 * np.abs(expected).max())


def test_codes_are_centred_before_they_are_scaled(model):
    rng = np.random.default_rng(0)
    far = copy.copy(model)
    far.mean, far.deviation = np.full(40, 1e4), np.full(40, 1e-5)
    X = (1e4 + 1e-5 * rng.normal(size=(5, 40))).astype(np.float64)
    wide = np.longdouble
    exact = (X.astype(wide) - far.mean.astype(wide)) / far.deviation.astype(wide) @ far.coef.T.astype(wide)
    np.testing.assert_allclose(far.decision_function(X), (exact + far.intercept).astype(float), rtol=1e-9)


def test_rows_taken_in_pieces_decide_the_same(model, split_codes, monkeypatch):
    X, _ = codes_of(split_codes, "penultimate", None)
    whole = model.decision_function(X)
    monkeypatch.setattr(cnncodes.models.model, "ROWS", 7)
    np.testing.assert_allclose(model.decision_function(X), whole, rtol=1e-12, atol=1e-12)
    assert model.decision_function(X[:0]).shape == (0, 10)


@pytest.mark.parametrize("codes", ["split_codes", "pair_codes"])
def test_probabilities_of_logistic_regression_are_its_own_at_another_temperature(codes, request):
    path = request.getfixturevalue(codes)
    model = fit(path, clf="logreg", C=0.001, cv=2)
    X, y = codes_of(path, "penultimate", "train" if codes == "split_codes" else None)
    own = model.to_sklearn().predict_proba(X.astype(float))
    expected = own ** (1 / model.temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-12)
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    held_out = cross_val_predict(plain("logreg", 0.001), X, y, cv=folds, method="predict_proba")
    right = np.mean(np.array(model.classes)[held_out.argmax(axis=1)] == y)
    tempered = held_out ** (1 / model.temperature)
    tempered /= tempered.sum(axis=1, keepdims=True)
    assert held_out.max(axis=1).mean() < right - 0.05  # so strong a penalty makes it too timid
    assert tempered.max(axis=1).mean() == pytest.approx(right, abs=0.05)


@pytest.mark.parametrize("codes", ["split_codes", "pair_codes"])
def test_probabilities_of_an_svm_are_as_good_as_those_of_scikit_learns_calibration(codes, request, tmp_path):
    path = request.getfixturevalue(codes)
    model = fit(path, clf="svm")
    X, y = codes_of(path, "penultimate", "train" if codes == "split_codes" else None)
    fresh = np.flatnonzero(np.isin(Y_DIGITS, Y_DIGITS[:N_TRAIN] if codes == "split_codes" else [1, 8]))[-300:]
    X_new, y_new = X_DIGITS[fresh][:, LAYERS["penultimate"]], names(fresh)
    chances = model.predict_proba(X_new)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert np.array(model.classes)[chances.argmax(axis=1)].tolist() == model.predict(X_new).tolist()
    theirs = CalibratedClassifierCV(plain("svm", model.C), cv=5, ensemble=False).fit(X, y)
    assert log_loss(y_new, chances) < 1.1 * log_loss(y_new, theirs.predict_proba(X_new)) + 0.02
    right = np.mean(model.predict(X_new) == y_new)
    assert chances.max(axis=1).mean() == pytest.approx(right, abs=0.1)


def test_codes_of_another_length_are_refused(model):
    for shape in ((3, 41), (40,)):
        for method in (model.predict, model.novelty):
            with pytest.raises(ShapeError, match=r"expected \(n, 40\)"):
                method(np.zeros(shape))


@pytest.mark.parametrize("scale", ["standard", "l2", "none"])
def test_novelty_of_a_model_is_that_of_its_scaled_codes(scale, split_codes, monkeypatch):
    model = fit(split_codes, C=0.01, scale=scale)
    X, y = codes_of(split_codes, "penultimate", "train")
    Z = plain("svm", 1.0, scale)[0].fit_transform(X.astype(float))
    means = np.stack([Z[y == label].mean(axis=0) for label in model.classes])
    np.testing.assert_allclose(model.class_means, means, atol=1e-9)
    X_test, _ = codes_of(split_codes, "penultimate", "test")
    whole = model.novelty(X_test)
    angles = cosine_similarity(model.scaled(X_test) - means.mean(axis=0), means - means.mean(axis=0)).max(axis=1)
    assert (np.diff(whole[np.argsort(angles)]) <= 0).all()
    assert np.mean(whole >= 0.9) == pytest.approx(0.1, abs=0.08)
    monkeypatch.setattr(cnncodes.models.model, "ROWS", 7)
    np.testing.assert_array_equal(model.novelty(X_test), whole)


def test_a_class_that_was_held_out_is_novel(tmp_path):
    known, unknown = np.flatnonzero(Y_DIGITS != 3)[:400], np.flatnonzero(Y_DIGITS == 3)[:60]
    model = fit(write_codes(tmp_path / "codes.h5", known[:300], names(known[:300])), C=0.01)
    of_known, of_unknown = (model.novelty(X_DIGITS[rows][:, 24:]) for rows in (known[300:], unknown))
    scores, truth = np.concatenate([of_known, of_unknown]), np.repeat([0, 1], [len(of_known), len(of_unknown)])
    assert roc_auc_score(truth, scores) > 0.8


# ------------------------------------------------------------------------------------------------------- the model file


def test_what_is_saved_is_loaded(model, saved):
    loaded = ProbeModel.load(saved)
    assert loaded.same_as(model)
    X = np.random.default_rng(0).normal(size=(7, 40))
    np.testing.assert_array_equal(loaded.decision_function(X), model.decision_function(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.scores == model.scores
    assert loaded.provenance == model.provenance


def test_model_file_from_before_there_was_novelty_is_loaded_without_it(model, saved, tmp_path):
    def older(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        del arrays["class_means"], arrays["familiarity"]

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
    broken.scores = replace(model.scores, seconds=value)
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


# ------------------------------------------------------------------------------------------------- on codes and images


def test_evaluation_on_codes_scores_the_held_out_rows(model, split_codes):
    result = evaluate(split_codes, model)
    X, y = codes_of(split_codes, "penultimate", "test")
    assert result.to_dict()["n"] == N_TEST
    assert result.to_dict()["test_accuracy"] == np.mean(model.to_sklearn().predict(X.astype(float)) == y)
    assert result.to_dict()["test_accuracy"] == model.scores["test_accuracy"]
    assert [note for note in result.notes if "near-duplicates" not in note] == []


def test_evaluation_reads_a_bounded_piece_of_the_file_at_a_time(model, split_codes, monkeypatch):
    whole = evaluate(split_codes, model, guard=False)
    read, sizes = CodesFile.codes, []

    def watched(*args, **options):
        codes = read(*args, **options)
        sizes.append(len(codes))
        return codes

    monkeypatch.setattr(cnncodes.probes.out_of_core, "CHUNK_BYTES", 7 * 4 * model.coef.shape[1])
    monkeypatch.setattr(CodesFile, "codes", watched)
    pieces = evaluate(split_codes, model, guard=False)
    asked = list(sizes)
    np.testing.assert_array_equal(pieces.predicted, whole.predicted)
    (X, y), (queries, expected) = (codes_of(split_codes, "penultimate", split) for split in ("train", "test"))
    nearest = KNeighborsClassifier(1).fit(model.scaled(X), y)
    assert pieces.neighbour_accuracy == whole.neighbour_accuracy == nearest.score(model.scaled(queries), expected)
    assert [size for size in asked if size > 7] == [N_TEST]  # those that the nearest neighbour is looked for
    assert asked.count(7) > 10


def test_images_that_the_model_was_fitted_on_are_not_held_out(pair_codes, tmp_path):
    fitted = fit(pair_codes, C=0.01)
    assert "test_accuracy" not in evaluate(pair_codes, fitted).to_dict()
    rows = np.flatnonzero(np.isin(Y_DIGITS, [1, 8]))[100:150]  # twenty of them are training images
    both = evaluate(write_codes(tmp_path / "codes.h5", rows, names(rows)), fitted)
    assert (len(both.y), both.n_seen) == (30, 20)
    assert any("20 images are left out: the model was fitted on them" in note for note in both.notes)
    new = evaluate(write_codes(tmp_path / "new.h5", rows[20:], names(rows[20:])), fitted)
    assert both.to_dict()["test_accuracy"] == new.to_dict()["test_accuracy"]
    assert new.n_seen == 0


def test_model_file_never_takes_the_place_of_another_file(model, pair_codes, tmp_path):
    for name, content in (("codes.h5", pair_codes.read_bytes()), ("notes.txt", b"all my notes")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CnnCodesError, match="is there and not a model file"):
            model.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    (tmp_path / "empty").touch()
    model.save(tmp_path / "empty")


def test_evaluation_on_the_rows_it_was_trained_on_says_so(pair_codes):
    result = evaluate(pair_codes, fit(pair_codes, C=1.0))
    assert any("fitted on" in note for note in result.notes)


def test_class_that_the_model_does_not_know_is_named_and_missed(model, tmp_path):
    rows = np.arange(300, 340)
    path = write_codes(tmp_path / "codes.h5", rows, ["moth"] * 5 + names(rows[5:]))
    result = evaluate(path, model)
    assert any("moth" in note for note in result.notes)
    assert result.per_class["moth"] == {"precision": 0, "recall": 0, "f1": 0, "n": 5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "huge"}, "backbone is 'huge' there and 'tiny' in the model"),
        ({"weights_sha256": "cd" * 32}, "weights_sha256 is 'cdcd"),
        ({"pooling": "max"}, "pooling is 'max' there and 'avg' in the model"),
        ({"precision": "bf16"}, "precision is 'bf16'"),
        ({"preprocessing": {**DESCRIPTION["preprocessing"], "mode": "pad"}}, "preprocessing.mode is 'pad' there"),
        ({"preprocessing": {**DESCRIPTION["preprocessing"], "views": "flip"}}, "preprocessing.views is 'flip' there"),
        ({"layers": {"layer1": {"n_features": 24, "pooling": "avg"}}}, "layer 'penultimate' is not there"),
        (
            {"layers": {"penultimate": {"n_features": 41, "pooling": "avg"}}},
            "penultimate has 41 features there and 40 in the model",
        ),
    ],
)
def test_codes_made_otherwise_are_refused_and_each_difference_named(change, message, model):
    model.check_codes(Provenance.from_dict(DESCRIPTION), "same.h5")
    with pytest.raises(MismatchError, match=r"other\.h5 does not fit the model") as caught:
        model.check_codes(Provenance.from_dict({**DESCRIPTION, **change}), "other.h5")
    assert message in str(caught.value)
    with pytest.raises(MismatchError) as caught:
        model.check_codes(Provenance.from_dict({**DESCRIPTION, **change, "weights_sha256": "ef" * 32}), "other.h5")
    assert "efef" in str(caught.value)
    assert message[:9] in str(caught.value)


def test_evaluation_refuses_codes_of_another_backbone(model, tmp_path):
    path = write_codes(tmp_path / "other.h5", BAD, ["a", "b"] * 10, description={**DESCRIPTION, "backbone": "huge"})
    with pytest.raises(MismatchError, match="backbone is 'huge'"):
        evaluate(path, model)


def test_held_out_class_without_training_images_is_noted(tmp_path):
    rows = np.flatnonzero(np.isin(Y_DIGITS, [1, 8, 9]))[:90]
    splits = ["test" if digit == 9 else "train" for digit in Y_DIGITS[rows]]
    scored = fit(write_codes(tmp_path / "codes.h5", rows, names(rows), splits), C=0.01)
    assert scored.scores["test_accuracy"] == 0.0
    assert any("always miss: digit 9" in note for note in scored.notes)


def test_images_are_labelled_as_their_codes_are(sample_codes, small_sample, tmp_path):
    model = fit(sample_codes, layers=["layer3", "penultimate"], C=0.01)
    model.save(tmp_path / "model.safetensors")
    loaded = ProbeModel.load(tmp_path / "model.safetensors")
    X, _ = codes_of(sample_codes, ["layer3", "penultimate"], "test")
    with CodesFile.open(sample_codes) as file:
        paths = file.ids[file.rows("test")]
    expected = dict(
        zip(paths.tolist(), zip(model.predict(X), model.predict_proba(X).max(axis=1), strict=True), strict=True)
    )

    (small_sample / "test" / "Bag" / "zero.png").touch()
    try:
        answers = {one.path: one for one in loaded.predict_images(small_sample / "test")}
        result = evaluate(small_sample / "test", loaded)
    finally:
        (small_sample / "test" / "Bag" / "zero.png").unlink()
    assert answers.pop("Bag/zero.png").label is None
    assert {f"test/{path}" for path in answers} == set(expected)
    for path, one in answers.items():
        label, probability = expected[f"test/{path}"]
        assert one.label == label
        assert one.probability == pytest.approx(probability, abs=1e-6)
    assert result.to_dict()["test_accuracy"] == model.scores["test_accuracy"]
    assert any("zero.png" in note for note in result.notes)


def test_image_that_cannot_be_read_has_a_reason(sample_codes, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    (answer,) = fit(sample_codes, C=0.01).predict_images(tmp_path)
    assert (answer.path, answer.label, answer.probability) == ("broken.png", None, None)
    assert (answer.novelty, answer.guess, answer.status) == (None, None, "failed")
    assert answer.reason


def test_below_the_least_confidence_there_is_a_guess_and_no_label(sample_codes, small_sample):
    model = fit(sample_codes, C=0.01)
    answers = model.predict_images(small_sample / "test")
    assert {one.status for one in answers} == {"labelled"}
    assert all(one.label == one.guess for one in answers)
    least = sorted(one.probability for one in answers)[7]
    cautious = model.predict_images(small_sample / "test", min_confidence=least)
    assert [one.guess for one in cautious] == [one.label for one in answers]
    assert [one.probability for one in cautious] == [one.probability for one in answers]
    assert [one.label for one in cautious] == [one.guess if one.probability >= least else None for one in answers]
    assert [one.status for one in cautious].count("unsure") == 7
    with pytest.raises(SettingError, match="from 0 to 1"):
        model.predict_images(small_sample / "test", min_confidence=80)


def test_novelty_of_images_is_that_of_their_codes(sample_codes, small_sample):
    model = fit(sample_codes, C=0.01)
    X, _ = codes_of(sample_codes, "penultimate", "test")
    with CodesFile.open(sample_codes) as file:
        expected = dict(zip(file.ids[file.rows("test")].tolist(), model.novelty(X), strict=True))
    for one in model.predict_images(small_sample / "test"):
        assert one.novelty == pytest.approx(expected[f"test/{one.path}"], abs=0.05)  # a step is 1/31
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    assert model.predict_images(noise)[0].novelty > 0.8


def test_model_without_its_weights_refuses_to_predict(sample_codes, small_sample):
    model = fit(sample_codes, C=0.01)
    model.provenance = replace(model.provenance, weights_sha256="ab" * 32)
    with pytest.raises(CnnCodesError, match="SHA-256"):
        model.predict_images(small_sample / "test")


def test_predicting_and_extracting_at_once_gives_what_one_gives(
    sample_codes: Path, small_sample: Path, tmp_path: Path
) -> None:
    model = fit(sample_codes, C=0.01)

    def predict() -> list[Any]:
        return [(one.path, one.label, one.probability) for one in model.predict_images(small_sample / "test")]

    def write(name: str, backbone: str) -> list[np.ndarray]:
        extract(small_sample / "test", tmp_path / name, backbone=backbone, weights=WEIGHTS[backbone], image_size=64)
        with CodesFile.open(tmp_path / name) as file:
            return [file.codes(layer) for layer in file.layers]

    def torch_now() -> list[Any]:
        module = torch.nn.Module
        return [module.__call__, module.__getattr__, torch.get_num_threads(), torch.get_rng_state().tolist()]

    before = torch_now()
    expected = predict(), write("0.h5", "mobilenet_v2"), write("1.h5", "squeezenet1_1")
    for turn in "ab":
        with ThreadPoolExecutor(4) as pool:
            predicted = [pool.submit(predict) for _ in range(2)]
            written = [pool.submit(write, f"{turn}{name}.h5", name) for name in WEIGHTS]
            assert [one.result() for one in predicted] == [expected[0]] * 2
            for codes, one in zip(expected[1:], written, strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(codes, one.result(), strict=True))
    assert torch_now() == before
