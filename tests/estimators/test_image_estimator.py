"""The estimators keep scikit-learn's contract: its own checks where images allow them."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from icc_profiles import DISPLAY_P3
from PIL import Image
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks
from tiny_network import PLAIN
from torch import nn

from cnncodes import CNNCodes, CNNCodesClassifier, register_backbone
from cnncodes.errors import MismatchError
from cnncodes.networks.registry import registered_networks

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
    "is of sample weights, which the classifier takes as in test_weights_are_those_of_scikit_learn": (
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
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert all(f"def {test}(" in tests for test in COVERED_HERE.values())
    if unknown := every - set(RUN) - COVERED_HERE.keys() - left_out:
        pytest.skip(f"this scikit-learn has checks that are new: {', '.join(sorted(unknown))}")


def test_pickled_estimators_give_the_same_and_hold_no_network(data: tuple, estimators: list[BaseEstimator]) -> None:
    paths, y = data
    for estimator in estimators:
        estimator.fit(paths, y)
        content = pickle.dumps(estimator)
        assert len(content) < 200_000
        method = "transform" if hasattr(estimator, "transform") else "predict"
        expected = getattr(estimator, method)(paths[:3])
        np.testing.assert_array_equal(getattr(pickle.loads(content), method)(paths[:3]), expected)


@pytest.mark.parametrize(
    ("kind", "method", "settings"),
    [(CNNCodes, "transform", {}), (CNNCodesClassifier, "decision_function", {"C": 0.1, "cv": 2})],
)
def test_estimators_ignore_colour_profiles_if_told_or_pickled_before_there_was_the_parameter(
    kind: type, method: str, settings: dict[str, Any]
) -> None:
    plain = [Image.new("RGB", (60, 50), colour) for colour in ("red", "green", "orange", "brown")]
    profiled = [image.copy() for image in plain]
    for image in profiled:
        image.info["icc_profile"] = DISPLAY_P3
    for ignored in (True, False):
        estimator = kind(layer="layer1", image_size=64, ignore_profiles=ignored, **settings).fit(plain, list("abba"))
        values = [getattr(estimator, method)(images) for images in (plain, profiled)]
        assert np.array_equal(*values) == ignored
    for part in (estimator, getattr(estimator, "codes_", estimator)):
        vars(part).pop("ignore_profiles", None)
    older = pickle.loads(pickle.dumps(estimator))
    assert older.ignore_profiles
    np.testing.assert_array_equal(getattr(older, method)(profiled), values[0])


def test_construction_and_cloning_load_nothing(
    monkeypatch: pytest.MonkeyPatch, estimators: list[BaseEstimator]
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr("cnncodes.extraction.kept_network.build_network", fail)
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


def register_lambda(name: str, seed: int = 0) -> None:
    def build() -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))

    register_backbone(name, lambda: build(), preprocessing=PLAIN, overwrite=True)


@pytest.mark.slow
def test_a_network_of_ones_own_goes_to_other_processes(data: tuple) -> None:
    """A search may also set its name in the other process."""
    paths, y = data
    register_lambda("travels")
    classifier = CNNCodesClassifier("travels", C=0.1, cv=2)
    expected = cross_val_score(classifier, paths, y, cv=2, error_score="raise")
    np.testing.assert_array_equal(cross_val_score(classifier, paths, y, cv=2, n_jobs=2, error_score="raise"), expected)
    pipe = make_pipeline(CNNCodes("squeezenet1_1", weights="random"), LinearSVC())
    grid = {"cnncodes__backbone": ["travels"], "cnncodes__weights": [None]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2, error_score="raise").fit(paths, y)
    assert search.best_params_["cnncodes__backbone"] == "travels"


@pytest.mark.slow
def test_a_network_of_ones_own_is_known_where_its_estimator_is_loaded(tmp_path: Path, data: tuple) -> None:
    """It is defined in a script, of which a new process knows nothing."""
    making = """
        import joblib, pickle, sys, torch
        from cnncodes import CNNCodes, Preprocessing, register_backbone
        class Net(torch.nn.Sequential):
            pass
        def build():
            torch.manual_seed(7)
            return Net(torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                       torch.nn.Linear(8, 2))
        plain = Preprocessing(32, 32, "bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        register_backbone("script", build, preprocessing=plain)
        fitted = CNNCodes("script").fit(sys.argv[2:])
        pickle.dump(fitted, open(sys.argv[1] + ".pickle", "wb"))
        joblib.dump(fitted, sys.argv[1] + ".joblib")
        print(fitted.transform(sys.argv[2:]).tolist())
    """
    using = """
        import joblib, pickle, sys
        codes = joblib.load(sys.argv[1] + ".joblib").transform(sys.argv[2:])
        assert (pickle.load(open(sys.argv[1] + ".pickle", "rb")).transform(sys.argv[2:]) == codes).all()
        print(codes.tolist())
    """
    words = [str(tmp_path / "fitted"), *data[0][:3]]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *words], check=True, capture_output=True, text=True
        )
        for script in (making, using)
    ]
    assert outputs[0].stdout == outputs[1].stdout != ""


def test_other_weights_than_those_of_fit_are_refused(data: tuple) -> None:
    register_lambda("changes")
    transformer = CNNCodes("changes").fit(data[0][:2])
    content = pickle.dumps(transformer)
    register_lambda("changes", seed=1)
    with pytest.raises(MismatchError, match=r"the weights of changes are other ones now than in fit"):
        pickle.loads(content).transform(data[0][:2])


def test_each_estimator_keeps_the_network_that_it_came_with(data: tuple) -> None:
    """Two of the same name meet in a process, and go on to another one."""
    paths = data[0][:2]
    contents, codes = [], []
    for seed in (0, 1):
        register_lambda("namesake", seed)
        transformer = CNNCodes("namesake").fit(paths)
        contents.append(pickle.dumps(transformer))
        codes.append(transformer.transform(paths))
    assert np.abs(codes[0] - codes[1]).max() > 0.01
    del registered_networks["namesake"]
    loaded = [pickle.loads(content) for content in contents]
    for i in (0, 1, 0):
        np.testing.assert_array_equal(loaded[i].transform(paths), codes[i])
    for i in (1, 0, 1):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(loaded[i])).transform(paths), codes[i])
