"""The estimators keep scikit-learn's contract: its own checks where images allow them, and use in its tools."""

from __future__ import annotations

import inspect
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks

import cnncodes.extraction.extract
import cnncodes.extraction.fill
from cnncodes import CNNCodes, CNNCodesClassifier, load_codes
from cnncodes.errors import CodesFileError, ImagesError, MismatchError
from cnncodes.images.loading import load_images

# scikit-learn's checks that need no numeric X; test_every_check_of_scikit_learn_is_accounted_for lists the rest.
RUN = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]
COVERED_HERE = {  # the same property, tested below with images
    "check_dict_unchanged": "test_predicting_changes_nothing",
    "check_dont_overwrite_parameters": "test_fit_adds_only_attributes_that_end_in_an_underscore",
    "check_estimators_overwrite_params": "test_fit_adds_only_attributes_that_end_in_an_underscore",
    "check_estimators_pickle": "test_pickled_estimators_give_the_same_and_hold_no_network",
    "check_fit2d_predict1d": "test_what_is_no_image_is_refused",
    "check_fit_idempotent": "test_fitting_twice_gives_the_same",
    "check_fit_score_takes_y": "test_in_a_pipeline_with_cross_validation",
    "check_methods_sample_order_invariance": "test_the_order_of_images_does_not_matter",
    "check_methods_subset_invariance": "test_the_order_of_images_does_not_matter",
    "check_pipeline_consistency": "test_in_a_pipeline_with_cross_validation",
    "check_transformer_general": "test_codes_are_those_of_the_codes_file",
    "check_transformer_get_feature_names_out": "test_feature_names_and_pandas_output",
    "check_set_output_transform_pandas": "test_feature_names_and_pandas_output",
    "check_classifiers_classes": "test_classifier_predicts_labels_and_probabilities",
    "check_classifiers_train": "test_classifier_predicts_labels_and_probabilities",
    "check_supervised_y_2d": "test_labels_that_do_not_fit_are_refused",
    "check_requires_y_none": "test_labels_that_do_not_fit_are_refused",
    "check_estimators_fit_returns_self": "test_fit_adds_only_attributes_that_end_in_an_underscore",
    "check_transformers_unfitted": "test_checks_of_scikit_learn_that_need_no_table",
    "check_param_validation": "test_wrong_parameters_are_refused_by_fit",
    "check_decision_proba_consistency": "test_classifier_predicts_labels_and_probabilities",
    "check_classifiers_predictions": "test_classifier_predicts_labels_and_probabilities",
    "check_classifiers_one_label": "test_labels_that_do_not_fit_are_refused",
    "check_set_output_transform": "test_feature_names_and_pandas_output",
}
LEFT_OUT = {  # reason: checks, by the end of their names
    "needs a numeric table (n_samples, n_features), with the dtypes, memory layouts and values that one can have": (
        "all_zero_sample_weights_error array_api_input array_api_input_and_values array_api_mixed_inputs "
        "array_api_same_namespace classifier_data_not_an_array complex_data dataframe_column_names_consistency "
        "dtype_object estimator_sparse_array estimator_sparse_matrix estimator_sparse_tag estimators_data_not_an_array "
        "estimators_dtypes estimators_empty_data_messages estimators_nan_inf estimators_partial_fit_n_features "
        "f_contiguous_array_estimator fit1d fit2d_1feature fit2d_1sample fit_check_is_fitted fit_non_negative "
        "inplace_ensure_writeable n_features_in n_features_in_after_fitting nonsquare_error "
        "positive_only_tag_during_fit readonly_memmap_input supervised_y_no_nan transformer_data_not_an_array "
        "transformer_preserve_dtypes "
        "get_feature_names_out_error transformer_get_feature_names_out_pandas global_output_transform_pandas "
        "class_weight_balanced_classifiers class_weight_balanced_linear_classifier class_weight_classifiers "
        "classifiers_regression_target"
    ),
    "is of sample weights, which these estimators do not take": (
        "classifiers_one_label_sample_weights sample_weight_equivalence_on_dense_data "
        "sample_weight_equivalence_on_sparse_data sample_weights_list sample_weights_not_an_array "
        "sample_weights_not_overwritten sample_weights_pandas_series sample_weights_shape"
    ),
    "is of another kind of estimator": (
        "classifier_multioutput classifier_not_supporting_multiclass "
        "classifiers_multilabel_output_format_decision_function classifiers_multilabel_output_format_predict "
        "classifiers_multilabel_output_format_predict_proba classifiers_multilabel_representation_invariance "
        "clusterer_compute_labels_predict clustering non_transformer_estimators_n_iter outlier_contamination "
        "outlier_corruption outliers_fit_predict outliers_train regressor_data_not_an_array regressor_multioutput "
        "regressors_int regressors_no_decision_function regressors_train sparsify_coefficients transformer_n_iter "
        "transformers_unfitted_stateless"
    ),
    "needs polars": "global_set_output_transform_polars set_output_transform_polars",
    "is no check of its own": "estimator is_fitted",
}


@pytest.fixture(scope="module")
def data(small_sample: Path) -> tuple[list[str], np.ndarray]:
    images = load_images(small_sample / "train")
    assert images.labels is not None
    return [str(path) for path in images.sources], np.array(images.labels)


@pytest.fixture
def estimators() -> list[BaseEstimator]:
    return [CNNCodes(layer="layer1"), CNNCodesClassifier(layer="layer1", C=0.1)]


@pytest.mark.parametrize("name", RUN)
@pytest.mark.parametrize("kind", [CNNCodes, CNNCodesClassifier])
def test_checks_of_scikit_learn_that_need_no_table(name: str, kind: type) -> None:
    check: Callable[..., Any] = getattr(estimator_checks, name)
    check(kind.__name__, kind())


def test_every_check_of_scikit_learn_is_accounted_for() -> None:
    """Run here, covered by a test with images, or left out for a reason."""
    every = {name for name, _ in inspect.getmembers(estimator_checks, inspect.isfunction) if name.startswith("check_")}
    left_out = {f"check_{name}" for names in LEFT_OUT.values() for name in names.split()}
    assert not left_out & (set(RUN) | COVERED_HERE.keys())
    assert all(test in globals() for test in COVERED_HERE.values())
    if unknown := every - set(RUN) - COVERED_HERE.keys() - left_out:
        pytest.skip(f"this scikit-learn has checks that are new: {', '.join(sorted(unknown))}")


def test_codes_are_those_of_the_codes_file(data: tuple, sample_codes: Path) -> None:
    paths, _ = data
    transformer = CNNCodes(layer=["layer3", "layer1"])
    codes = transformer.fit_transform(paths)
    np.testing.assert_array_equal(codes, load_codes(sample_codes, ["layer3", "layer1"], split="train"))
    assert transformer.n_features_out_ == 120
    assert transformer.provenance_.weights_sha256.startswith("b0353104")
    arrays = np.stack([np.array(Image.open(path)) for path in paths[:4]])
    np.testing.assert_array_equal(transformer.transform(arrays), codes[:4])
    np.testing.assert_array_equal(transformer.transform([Image.open(path) for path in paths[:4]]), codes[:4])
    np.testing.assert_array_equal(transformer.transform(np.array(paths[:4])), codes[:4])


def test_the_order_of_images_does_not_matter(data: tuple) -> None:
    paths = data[0][:12]
    transformer = CNNCodes(layer="layer3").fit(paths)
    codes = transformer.transform(paths)
    np.testing.assert_array_equal(transformer.transform(paths[::-1])[::-1], codes)
    np.testing.assert_array_equal(np.vstack([transformer.transform([path]) for path in paths[:3]]), codes[:3])


def test_feature_names_and_pandas_output(data: tuple) -> None:
    transformer = CNNCodes(layer=["layer1", "layer2"]).set_output(transform="pandas")
    frame = transformer.fit_transform(data[0][:3])
    assert list(frame.columns) == [f"layer1_{i}" for i in range(24)] + [f"layer2_{i}" for i in range(32)]
    assert frame.columns.tolist() == transformer.get_feature_names_out().tolist()


def test_pickled_estimators_give_the_same_and_hold_no_network(data: tuple, estimators: list[BaseEstimator]) -> None:
    paths, y = data
    for estimator in estimators:
        estimator.fit(paths, y)
        content = pickle.dumps(estimator)
        assert len(content) < 200_000
        method = "transform" if hasattr(estimator, "transform") else "predict"
        expected = getattr(estimator, method)(paths[:3])
        np.testing.assert_array_equal(getattr(pickle.loads(content), method)(paths[:3]), expected)


def test_construction_and_cloning_load_nothing(
    monkeypatch: pytest.MonkeyPatch, estimators: list[BaseEstimator]
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr("cnncodes.extraction.settings.build_network", fail)
    for estimator in estimators:
        copy = clone(estimator.set_params(layer="layer2"))
        assert copy.get_params() == estimator.get_params()
        assert copy.layer == "layer2"
        assert "CNNCodes" in copy._repr_html_()


def test_fit_adds_only_attributes_that_end_in_an_underscore(data: tuple, estimators: list[BaseEstimator]) -> None:
    paths, y = data
    for estimator in estimators:
        before = estimator.get_params()
        estimator.fit(paths, y)
        assert estimator.get_params() == before
        new = vars(estimator).keys() - before.keys()
        assert all(name.endswith("_") or name.startswith("_") for name in new)


def test_predicting_changes_nothing(data: tuple, estimators: list[BaseEstimator]) -> None:
    paths, y = data
    classifier = estimators[1].fit(paths, y)
    before = pickle.dumps(classifier)
    classifier.predict(paths[:2])
    classifier.predict_proba(paths[:2])
    assert pickle.dumps(classifier) == before


def test_fitting_twice_gives_the_same(data: tuple) -> None:
    paths, y = data
    classifier = CNNCodesClassifier(layer="layer1", C=0.1)
    first = classifier.fit(paths, y).decision_function(paths[:5])
    np.testing.assert_array_equal(classifier.fit(paths, y).decision_function(paths[:5]), first)


@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_classifier_predicts_labels_and_probabilities(data: tuple, small_sample: Path, clf: str) -> None:
    paths, y = data
    classifier = CNNCodesClassifier(clf=clf, C=0.01).fit(paths, y)
    test = load_images(small_sample / "test")
    assert classifier.classes_.tolist() == ["Bag", "Sandal", "Trouser"]
    assert classifier.score(test.sources, test.labels) >= 0.7
    assert classifier.cv_accuracy_ >= 0.7
    chances = classifier.predict_proba(test.sources)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    assert (classifier.classes_[chances.argmax(axis=1)] == classifier.predict(test.sources)).all()
    binary = CNNCodesClassifier(layer="layer1", clf=clf, C=0.1).fit(paths[:20], (y[:20] == "Bag").astype(int))
    assert binary.decision_function(paths[:4]).shape == (4,)
    assert binary.predict_proba(paths[:4]).shape == (4, 2)
    assert binary.predict(paths[:4]).dtype.kind == "i"


def test_in_a_pipeline_with_cross_validation(data: tuple, tmp_path: Path) -> None:
    paths, y = data
    pipe = make_pipeline(CNNCodes(layer="layer3", cache=tmp_path / "codes.h5"), StandardScaler(), LinearSVC(C=0.01))
    assert cross_val_score(pipe, paths, y, cv=3).mean() >= 0.7


def test_a_cache_tells_apart_images_of_the_same_bytes(tmp_path: Path) -> None:
    """A palette, and an EXIF tag, are part of the picture."""
    indices = np.random.default_rng(0).integers(0, 2, (40, 40), dtype=np.uint8)
    images = [Image.fromarray(indices, "P") for _ in range(2)]
    images[0].putpalette([255, 0, 0, 0, 0, 255])
    images[1].putpalette([0, 255, 0, 255, 255, 255])
    turned = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    images += [turned, turned.copy()]
    images[3].getexif()[0x0112] = 3
    cached = CNNCodes(layer="layer1", cache=tmp_path / "codes.h5").fit_transform(images)
    np.testing.assert_array_equal(cached, CNNCodes(layer="layer1").fit_transform(images))
    assert np.abs(cached[0] - cached[1]).max() > 0.01 < np.abs(cached[2] - cached[3]).max()


def test_a_cache_made_with_other_settings_is_refused(data: tuple, tmp_path: Path) -> None:
    paths = data[0][:4]
    cache = tmp_path / "codes.h5"
    CNNCodes(layer="layer1", cache=cache, image_size=64).fit_transform(paths)
    for other in (CNNCodes(layer="layer1", cache=cache), CNNCodes(layer="layer1", cache=cache, image_size=96)):
        with pytest.raises(MismatchError, match=r"preprocessing.image_size is 64, asked"):
            other.fit_transform(paths)
    CNNCodes(layer="layer1", cache=cache, image_size=64).fit_transform(paths)
    CNNCodes(layer="layer1", cache=tmp_path / "random.h5", weights="random").fit_transform(paths)
    with pytest.raises(MismatchError, match=r"weights is 'random', asked 'IMAGENET1K_V1'"):
        CNNCodes(layer="layer1", cache=tmp_path / "random.h5").fit_transform(paths)
    with pytest.raises(CodesFileError, match="cannot be written"):
        CNNCodes(layer="layer1", cache=tmp_path / "no" / "codes.h5").fit_transform(paths)


def test_a_search_over_layers_runs_no_image_twice(data: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, y = data
    seen: list[int] = []
    run_batches = cnncodes.extraction.fill.run_batches
    monkeypatch.setattr(
        cnncodes.extraction.fill,
        "run_batches",
        lambda images, rows, *rest, **options: seen.extend(rows) or run_batches(images, rows, *rest, **options),
    )
    pipe = make_pipeline(CNNCodes(cache=tmp_path / "codes.h5"), StandardScaler(), LinearSVC(C=0.01))
    search = GridSearchCV(pipe, {"cnncodes__layer": ["layer1", "layer3", "penultimate"]}, cv=3)
    search.fit(paths, y)
    assert len(seen) == len(paths)
    assert search.best_score_ >= 0.7
    search.predict(paths)
    assert len(seen) == len(paths)


def test_a_codes_file_of_the_command_line_is_a_cache(
    data: tuple, sample_codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "codes.h5"
    shutil.copy(sample_codes, cache)
    build = cnncodes.extraction.extract.build_network
    monkeypatch.setattr("cnncodes.extraction.cache.build_network", lambda *_: pytest.fail("a network was built"))
    transformer = CNNCodes(layer="layer3", cache=cache)
    np.testing.assert_array_equal(transformer.fit_transform(data[0]), load_codes(cache, "layer3", split="train"))
    monkeypatch.setattr("cnncodes.extraction.cache.build_network", build)
    new = Image.new("RGB", (60, 50), "red")
    added = transformer.transform([new, data[0][0]])
    np.testing.assert_array_equal(added, CNNCodes(layer="layer3").fit([new]).transform([new, data[0][0]]))
    extra = CNNCodes(layer="features.5", cache=cache).fit_transform(data[0][:3])
    np.testing.assert_array_equal(extra, CNNCodes(layer="features.5").fit_transform(data[0][:3]))
    np.testing.assert_array_equal(transformer.transform(data[0]), load_codes(sample_codes, "layer3", split="train"))
    with pytest.raises(MismatchError, match="image_size"):
        CNNCodes(layer="layer3", image_size=96, cache=cache).fit(data[0])


def test_what_is_no_image_is_refused(data: tuple, tmp_path: Path) -> None:
    transformer = CNNCodes(layer="layer1").fit(data[0])
    for wrong in (np.ones((3, 4)), np.ones(3), [], ["nowhere.jpg"], [1, 2]):
        with pytest.raises(ImagesError):
            transformer.transform(wrong)
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(ImagesError, match=r"broken.png.*leave this image out"):
        transformer.transform([tmp_path / "broken.png"])


@pytest.mark.parametrize("parameters", [{"pooling": "sum"}, {"image_size": 0}, {"layer": 3}, {"resize": "stretch"}])
def test_wrong_parameters_are_refused_by_fit(parameters: dict[str, Any], data: tuple) -> None:
    transformer = CNNCodes(**parameters)
    with pytest.raises(ValueError, match=next(iter(parameters))):
        transformer.fit(data[0][:2])


def test_labels_that_do_not_fit_are_refused(data: tuple) -> None:
    paths, y = data
    classifier = CNNCodesClassifier(layer="layer1")
    for wrong in (y[:-1], np.column_stack([y, y])):
        with pytest.raises(ValueError):
            classifier.fit(paths, wrong)
    with pytest.raises(ValueError):
        classifier.fit(paths, None)
