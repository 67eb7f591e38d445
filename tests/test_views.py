"""Several views of an image: their codes, and what probes, models and estimators make of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner
from PIL import Image, ImageOps
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torchvision.transforms import functional

from cnncodes import CNNCodes, CNNCodesClassifier, compare, evaluate, extract, fit, load_codes, merge, verify
from cnncodes.cli.main import main
from cnncodes.codes.file import CodesFile
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import MismatchError, SettingError, ShapeError
from cnncodes.extraction.in_memory import in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.loading import load_images
from cnncodes.models.model import ProbeModel
from cnncodes.probes.scores import neighbour_accuracy, nested_predictions
from cnncodes.probes.search import fit_probe, search_C
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path
from cnncodes.vocabulary import VIEWS

LAYERS = ["layer1", "penultimate"]


@pytest.fixture(scope="module")
def flip_codes(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flip") / "codes.h5"
    extract(small_sample, path, layers=LAYERS, resize="squash", views="flip")
    return path


@pytest.fixture(scope="module")
def model(flip_codes: Path) -> ProbeModel:
    return fit(flip_codes, C=0.01, cv=3)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------- codes


def test_the_mirrored_view_is_that_of_a_mirrored_file(photos: Path, tmp_path: Path) -> None:
    sources = []
    for i, path in enumerate(sorted(photos.rglob("*.png"))):
        image = Image.open(path).resize((224, 224))  # of the size that enters the network: no resizing rounds
        image.save(tmp_path / f"{i}.png")
        ImageOps.mirror(image).save(tmp_path / f"{i} mirrored.png")
        sources.append(tmp_path / f"{i}.png")
    mirrored = [path.with_name(f"{path.stem} mirrored.png") for path in sources]
    settings: dict[str, Any] = {"layers": LAYERS, "resize": "squash"}
    views = in_memory(load_images(sources), build_network(Settings(**settings, views="flip"))).codes
    plain = build_network(Settings(**settings))
    for i, files in enumerate((sources, mirrored)):
        expected = in_memory(load_images(files), plain).codes
        for name in LAYERS:
            np.testing.assert_array_equal(views[name][:, i], expected[name])
            assert views[name].dtype == expected[name].dtype
            assert not np.array_equal(views[name][:, 0], views[name][:, 1])


def test_ten_views_are_those_of_plain_torchvision(photos: Path) -> None:
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    model.eval()
    transform = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    paths = sorted(photos.rglob("*.png"))[:3]
    settings = Settings(layers=["penultimate"], views="10crop", precision="fp32", dtype="float32", exact_decode=True)
    codes = in_memory(load_images(paths), build_network(settings)).codes["penultimate"]
    assert codes.shape == (3, 10, 1280)
    for path, found in zip(paths, codes, strict=True):
        whole = functional.resize(Image.open(path), transform.resize_size)
        crops = torch.stack(
            [functional.pil_to_tensor(crop) for crop in functional.ten_crop(whole, transform.crop_size)]
        )
        with torch.inference_mode():
            maps = model.features(functional.normalize(crops / 255, transform.mean, transform.std))
        expected = maps.mean((2, 3)).numpy()
        errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert errors.max() <= 1e-5


@pytest.mark.parametrize("views", ["flip", "10crop"])
def test_the_codes_of_views_are_those_of_their_image_alone(photos: Path, views: str) -> None:
    """Alone, in a batch, shuffled, by one worker or three: the same bits."""
    images = load_images(photos)
    network = build_network(Settings(layers=LAYERS, views=views, image_size=128))
    together = in_memory(images, network, workers=1).codes
    three = in_memory(images, network, workers=3).codes
    order = np.random.default_rng(0).permutation(len(images))
    shuffled = in_memory(load_images([images.sources[i] for i in order]), network).codes
    alone = [in_memory(load_images(path), network).codes for path in images.sources]
    for name in LAYERS:
        assert together[name].shape[:2] == (len(images), VIEWS[views])
        np.testing.assert_array_equal(three[name], together[name])
        np.testing.assert_array_equal(shuffled[name], together[name][order])
        np.testing.assert_array_equal(np.concatenate([codes[name] for codes in alone]), together[name])


# ------------------------------------------------------------------------------------------------------- the codes file


def test_the_file_has_a_middle_axis_and_says_of_what(flip_codes: Path) -> None:
    with h5py.File(flip_codes) as h5:
        stored = h5["codes/layer1"][:].astype(np.float32)
        assert h5["codes/penultimate"].shape == (45, 2, 1280)
    X, y = load_codes(flip_codes, "layer1", return_X_y=True)
    np.testing.assert_array_equal(X, stored)
    assert (X.shape, y.shape) == ((45, 2, 24), (45,))
    with CodesFile.open(flip_codes) as file:
        assert file.views == (2,)
        assert file.n_features("layer1") == 24
        assert file.provenance.preprocessing.views == "flip"
        assert file.info()["layers"]["penultimate"] == "1280 features, of 2 views, avg"
        rows = np.array([7, 3])
        both = np.concatenate([file.codes(name, rows) for name in LAYERS], axis=2)
        np.testing.assert_array_equal(file.codes(LAYERS, rows), both)


def test_without_views_nothing_is_said_of_them(sample_codes: Path, small_sample: Path, tmp_path: Path) -> None:
    extract(small_sample, tmp_path / "codes.h5", views="none")
    assert digest(tmp_path / "codes.h5") == digest(sample_codes)
    with CodesFile.open(sample_codes) as file:
        assert "views" not in file.provenance.to_json()
        assert (file.views, file.codes("layer1").ndim) == ((), 2)


def test_a_repeated_command_need_not_name_the_views(small_sample: Path, flip_codes: Path) -> None:
    before = digest(flip_codes)
    assert extract(small_sample, flip_codes).computed == 0
    assert extract(small_sample, flip_codes, views="flip").computed == 0
    assert digest(flip_codes) == before


def test_other_views_are_refused(small_sample: Path, sample_codes: Path, flip_codes: Path) -> None:
    before = digest(flip_codes), digest(sample_codes)
    for path, asked, message in (
        (flip_codes, "10crop", "preprocessing.views is 'flip', asked '10crop'"),
        (flip_codes, "none", "preprocessing.views is 'flip', asked 'none'"),
        (sample_codes, "flip", "preprocessing.views is 'none', asked 'flip'"),
    ):
        with pytest.raises(MismatchError, match=message):
            extract(small_sample, path, views=asked)
    with pytest.raises(SettingError, match="no views are called 'mirror'; choose none, flip, 10crop"):
        extract(small_sample, flip_codes, views="mirror")
    assert (digest(flip_codes), digest(sample_codes)) == before


def test_only_damaged_and_new_rows_are_computed_again(small_sample: Path, flip_codes: Path, tmp_path: Path) -> None:
    out = Path(shutil.copy(flip_codes, tmp_path / "codes.h5"))
    with h5py.File(out, "r+") as h5:
        h5["codes/layer1"][4, 1, 3] += 1  # of the second view
        h5["images/crc32"][30] = 0
    with CodesFile.open(out) as file:
        assert file.verify().tolist() == [4]
    assert extract(small_sample, out).computed == 2
    assert digest(out) == digest(flip_codes)
    folder = tmp_path / "more"
    shutil.copytree(small_sample, folder)
    Image.new("RGB", (50, 40), "red").save(folder / "train" / "Bag" / "new.png")
    assert extract(folder, out).computed == 1  # the others' codes are carried into a new layout
    assert extract(folder, tmp_path / "new.h5", layers=LAYERS, resize="squash", views="flip").computed == 46
    assert digest(out) == digest(tmp_path / "new.h5")


def test_parts_merge_into_the_bytes_of_one_extraction(small_sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(small_sample / "test", folder)
    (folder / "Bag" / "empty.png").touch()
    settings: dict[str, Any] = {"layers": ["layer1"], "views": "flip"}
    for i in (1, 2):
        extract(folder, tmp_path / f"{i}.h5", shard=(i, 2), **settings)
    assert extract(folder, tmp_path / "whole.h5", **settings).failed == 1
    merge([tmp_path / "2.h5", tmp_path / "1.h5"], tmp_path / "merged.h5")
    assert digest(tmp_path / "merged.h5") == digest(tmp_path / "whole.h5")
    extract(folder, tmp_path / "plain.h5", shard=(2, 2), layers=["layer1"])
    with pytest.raises(MismatchError, match=r"preprocessing.views is 'flip', asked 'none'"):
        merge([tmp_path / "1.h5", tmp_path / "plain.h5"], tmp_path / "other.h5")


def test_verification_looks_at_each_view(small_sample: Path, flip_codes: Path, tmp_path: Path) -> None:
    found = verify(flip_codes, small_sample, sample=5)
    assert (found.good, found.recomputed, found.largest_error) == (True, 5, 0.0)
    path = shutil.copy(flip_codes, tmp_path / "codes.h5")
    with CodesWriter(path) as file:  # with a right checksum
        codes = {name: file.codes(name, np.array([7])) for name in file.stored_layers}
        codes["penultimate"][0, 1] = codes["penultimate"][0, 0]  # the mirrored view is that of the image itself
        file.write(np.array([7]), codes, file.sha256[[7]])
        name = file.ids[7]
    assert verify(path).good
    assert verify(path, small_sample, sample=45).wrong == [name]


# --------------------------------------------------------------------------------------------------------------- probes


@pytest.fixture(scope="module")
def viewed() -> tuple[np.ndarray, np.ndarray]:
    """Codes of 120 images in three classes, three noisy views of each."""
    X, y = make_classification(120, 20, n_informative=6, n_classes=3, class_sep=0.7, random_state=0)
    views = X[:, None] + np.random.default_rng(0).normal(scale=0.8, size=(120, 3, 20))
    return views.astype(np.float32), np.array(["a", "b", "c"])[y]


@pytest.mark.parametrize("clf", ["svm", "logreg"])
@pytest.mark.parametrize("classes", [2, 3])
def test_out_of_fold_decisions_are_sums_over_views(viewed: tuple, clf: str, classes: int) -> None:
    """All by hand, with plain scikit-learn: rows of views in, sums of their decision values out."""
    X, y = viewed
    X, y = X[y < "abcd"[classes]], y[y < "abcd"[classes]]
    probe, search = fit_probe(X, y, clf=clf, C=0.01, scale="standard", cv=4)
    plain = {"svm": LinearSVC(C=0.01, tol=1e-9, dual=False), "logreg": LogisticRegression(C=0.01, tol=1e-8)}[clf]
    expected = np.zeros((len(y), 1 if classes == 2 else classes))
    for train, test in StratifiedKFold(4, shuffle=True, random_state=0).split(y, y):
        rows, labels = np.vstack(X[train]), [label for label in y[train] for _ in range(3)]
        by_hand = make_pipeline(StandardScaler(), plain).fit(rows, labels)
        for view in range(3):
            expected[test] += by_hand.decision_function(X[test, view]).reshape(len(test), -1)
    np.testing.assert_allclose(search.decision, expected, atol=3e-3 * np.abs(expected).max())
    whole = make_pipeline(StandardScaler(), plain).fit(np.vstack(X), np.repeat(y, 3))
    np.testing.assert_allclose(probe[-1].coef_, whole[-1].coef_, atol=3e-3 * np.abs(whole[-1].coef_).max())


def test_no_fold_splits_the_views_of_an_image() -> None:
    """Labels that nothing tells but the image itself: a view in training would give its twin away."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(200, 1, 300)), 2, axis=1)
    y = rng.permutation(["a", "b"] * 100)
    search = search_C(X, y, Cs=[1.0])
    assert np.mean(search.predictions == y) < 0.65
    assert np.mean(nested_predictions(X, y, search.folds, C=1.0) == y) < 0.65
    assert neighbour_accuracy(X, y, search.folds) < 0.65
    split = search_C(np.vstack(X), np.repeat(y, 2), Cs=[1.0])
    assert np.mean(split.predictions == np.repeat(y, 2)) > 0.85  # so would it look


def test_the_nearest_image_is_that_of_the_nearest_mean() -> None:
    X = np.array([[[0.0], [4.0]], [[10.0], [12.0]], [[9.0], [-1.0]]])  # means 2, 11 and 4
    fold = (np.array([0, 1]), np.array([2]))
    assert neighbour_accuracy(X, np.array(["a", "b", "a"]), [fold], scale="none") == 1


@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_equal_views_are_one_with_twice_the_weight(viewed: tuple, clf: str) -> None:
    X, y = viewed[0][:, 0], viewed[1]
    twins = np.stack([X, X], axis=1)
    probe, search = fit_probe(X, y, clf=clf, C=0.02, cv=3)
    twice, of_twins = fit_probe(twins, y, clf=clf, C=0.01, cv=3)
    largest = np.abs(probe[-1].coef_).max()
    np.testing.assert_allclose(twice[-1].coef_, probe[-1].coef_, atol=3e-3 * largest)
    np.testing.assert_allclose(of_twins.decision, 2 * search.decision, atol=3e-3 * np.abs(search.decision).max())
    assert of_twins.temperature == pytest.approx(2 * search.temperature, rel=0.02)
    assert neighbour_accuracy(twins, y, search.folds) == neighbour_accuracy(X, y, search.folds)
    nested = [nested_predictions(codes, y, search.folds, clf=clf, C=C, cv=3) for codes, C in ((X, 0.02), (twins, 0.01))]
    assert np.mean(nested[0] == nested[1]) >= 0.98


def test_probabilities_of_summed_scores_are_calibrated(viewed: tuple) -> None:
    """A sum over views is no log-odds of logistic regression's: left alone, it would be far too sure."""
    X, y = np.repeat(viewed[0], 3, axis=1), viewed[1]
    search = search_C(X, y, clf="logreg", Cs=[0.1])
    sides = np.exp(search.decision / search.temperature)
    confidence = (sides / sides.sum(axis=1, keepdims=True)).max(axis=1)
    assert search.temperature > 2
    assert confidence.mean() == pytest.approx(np.mean(search.predictions == y), abs=0.06)


# --------------------------------------------------------------------------------------------------------------- models


def by_hand(model: ProbeModel, X: np.ndarray) -> np.ndarray:
    """Decision values by scikit-learn's own objects, one view after the other, and their sum."""
    probe = model.to_sklearn()
    return np.sum([probe.decision_function(X[:, view].astype(float)) for view in range(X.shape[1])], axis=0)


def test_a_model_sums_the_scores_of_views(model: ProbeModel, flip_codes: Path) -> None:
    X, y = load_codes(flip_codes, split="test", return_X_y=True)
    expected = by_hand(model, X)
    np.testing.assert_allclose(model.decision_function(X), expected, rtol=1e-9)
    answers = np.array(model.classes)[expected.argmax(axis=1)]
    assert model.predict(X).tolist() == answers.tolist()
    assert model.scores["test_accuracy"] == np.mean(answers == y)
    assert (model.scores["n"], model.scores["n_test"], model.scores["n_features"]) == (30, 15, 1280)
    chances = np.exp(expected / model.temperature)
    np.testing.assert_allclose(model.predict_proba(X), chances / chances.sum(axis=1, keepdims=True), rtol=1e-6)
    assert "of each image there are 2 views: all are trained on, and their scores are summed" in model.notes
    with pytest.raises(ShapeError, match=r"\(15, 1280\), expected \(n, 2, 1280\), the codes of penultimate"):
        model.predict(X[:, 0])


def test_new_images_are_labelled_by_the_same_views(
    model: ProbeModel, flip_codes: Path, small_sample: Path, tmp_path: Path
) -> None:
    model.save(tmp_path / "model.safetensors")
    loaded = ProbeModel.load(tmp_path / "model.safetensors")
    assert loaded.provenance.preprocessing.views == "flip"
    X = load_codes(flip_codes, split="test")
    answers = loaded.predict_images(small_sample / "test")
    assert [one.label for one in answers] == model.predict(X).tolist()
    np.testing.assert_allclose([one.probability for one in answers], model.predict_proba(X).max(axis=1), atol=1e-6)
    (alone,) = loaded.predict_images(small_sample / "test" / answers[0].path)
    assert (alone.label, alone.probability) == (answers[0].label, pytest.approx(answers[0].probability, rel=1e-12))
    of_codes, of_images = (evaluate(data, loaded).to_dict() for data in (flip_codes, small_sample / "test"))
    assert of_codes["test_accuracy"] == of_images["test_accuracy"] == model.scores["test_accuracy"]
    assert of_codes["confusion"] == of_images["confusion"]


def test_layers_are_concatenated_view_by_view(flip_codes: Path, small_sample: Path) -> None:
    both = fit(flip_codes, layers=LAYERS, clf="logreg", C=0.01, cv=3)
    X = load_codes(flip_codes, LAYERS, split="test")
    assert X.shape == (15, 2, 1304)
    np.testing.assert_allclose(both.decision_function(X), by_hand(both, X), rtol=1e-9)
    assert [one.label for one in both.predict_images(small_sample / "test")] == both.predict(X).tolist()


def test_codes_of_other_views_do_not_fit_the_model(model: ProbeModel, flip_codes: Path, sample_codes: Path) -> None:
    with pytest.raises(MismatchError, match=r"preprocessing.views is 'none' there and 'flip' in the model"):
        evaluate(sample_codes, model)
    with pytest.raises(MismatchError, match=r"preprocessing.views is 'flip' there and 'none' in the model"):
        evaluate(flip_codes, fit(sample_codes, C=0.01, cv=2))


def test_comparison_takes_all_views(flip_codes: Path) -> None:
    comparison = compare(flip_codes, clfs=["svm"], layers="layer1", cv=3, repeats=1)
    alone = fit(flip_codes, layers="layer1", cv=3).scores
    row = next(row for row in comparison.rows if row.layers == ["layer1"])
    for key in ("cv_accuracy", "C", "n", "n_features"):
        assert row.to_dict()[key] == pytest.approx(alone[key], rel=1e-12)
    assert row.n == 30
    assert any("2 views" in note for note in comparison.notes)


# ----------------------------------------------------------------------------------------------------------- estimators


def test_estimators_average_codes_and_sum_scores(flip_codes: Path, small_sample: Path, tmp_path: Path) -> None:
    paths = load_images(small_sample / "train").sources
    parameters: dict[str, Any] = {"layer": "layer1", "resize": "squash", "views": "flip"}
    X, y = load_codes(flip_codes, "layer1", split="train", return_X_y=True)
    codes = CNNCodes(**parameters).fit_transform(paths)
    np.testing.assert_array_equal(codes, X.mean(axis=1))
    cache = tmp_path / "cache.h5"
    for _ in range(2):  # filled, and found
        np.testing.assert_array_equal(CNNCodes(**parameters, cache=cache).fit_transform(paths), codes)
    with pytest.raises(MismatchError, match=r"preprocessing.views is 'flip', asked 'none'"):
        CNNCodes(layer="layer1", resize="squash", cache=cache).fit(paths)
    classifier = CNNCodesClassifier(**parameters, C=0.1, cv=3, cache=cache).fit(paths, y)
    decision = sum(classifier.probe_.decision_function(X[:, view]) for view in range(2))
    np.testing.assert_allclose(classifier.decision_function(paths), decision, rtol=1e-6)
    assert classifier.predict(paths).tolist() == classifier.classes_[decision.argmax(axis=1)].tolist()
    model = fit(flip_codes, layers="layer1", C=0.1, cv=3)
    np.testing.assert_allclose(classifier.predict_proba(paths), model.predict_proba(X), rtol=1e-5)
    with pytest.raises(ValueError, match="views"):
        CNNCodes(views="mirror").fit(paths)


# ----------------------------------------------------------------------------------------------------- the command line


def test_the_commands_chain_with_views(small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: object, code: int = 0) -> Any:
        result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    run("extract", small_sample, "--views", "10crop", "--layer", "layer1", "--image-size", 96)
    about = json.loads(run("info", "--json").stdout)
    assert about["preprocessing"]["views"] == "10crop"
    assert about["layers"]["layer1"].startswith("24 features, of 10 views, avg")
    fitted = run("fit", "--layer", "layer1", "-C", "0.1", "--cv", 3)
    assert "note: of each image there are 10 views" in fitted.stderr
    answers = json.loads(run("predict", small_sample / "test", "--format", "json").stdout)
    right = np.mean([one["label"] == one["path"].split("/")[0] for one in answers])
    assert right == json.loads(run("evaluate", small_sample / "test", "--json").stdout)["test_accuracy"]
    assert run("verify", "codes.h5", small_sample, "--sample", 3).stdout.startswith(
        "codes.h5: 45 of 45 rows are intact"
    )
    error = run("extract", small_sample, "--views", "flip", code=1).stderr
    assert "preprocessing.views is '10crop', asked 'flip'" in error
    run("extract", small_sample, "-o", "x.h5", "--views", "flop", code=2)
    assert not Path("x.h5").exists()
