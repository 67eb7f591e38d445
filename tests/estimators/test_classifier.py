"""`CNNCodesClassifier`: labels, probabilities, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cnncodes import CNNCodesClassifier
from cnncodes.errors import LabelsError, SettingError
from cnncodes.images.loading import load_images
from cnncodes.probes.folds import make_folds
from cnncodes.probes.probe import make_probe


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


def test_labels_that_do_not_fit_are_refused(data: tuple) -> None:
    paths, y = data
    classifier = CNNCodesClassifier(layer="layer1")
    for wrong in (y[:-1], np.column_stack([y, y])):
        with pytest.raises(ValueError):
            classifier.fit(paths, wrong)
    with pytest.raises(ValueError):
        classifier.fit(paths, None)
    for strange, words in (
        (iter(y), "can be read only once"),
        (dict.fromkeys(paths, "a"), "no order of images"),
        ([label.encode() for label in y], "decode them to text"),
        ([f"{label}\0" for label in y], "zero byte"),
    ):
        with pytest.raises(LabelsError, match=words):
            classifier.fit(paths, strange)


SMALL: dict[str, Any] = {"layer": "layer1", "image_size": 32}


def test_folds_may_come_from_a_splitter(data: tuple) -> None:
    """The same folds lead to the same choice, whoever made them."""
    paths, y = data
    folds, _ = make_folds(y, cv=3, seed=4)
    expected = CNNCodesClassifier(cv=3, random_state=4, **SMALL).fit(paths, y)
    given = CNNCodesClassifier(cv=folds, **SMALL).fit(paths, y)
    assert (given.C_, given.cv_accuracy_, given.temperature_) == (
        expected.C_,
        expected.cv_accuracy_,
        expected.temperature_,
    )
    grouped = CNNCodesClassifier(C=0.1, cv=GroupKFold(3), **SMALL).fit(paths, y, groups=np.arange(30) % 5)
    codes = grouped.codes_.transform(paths)
    probe = make_probe(C=0.1)
    decided = cross_val_predict(probe, codes, y, groups=np.arange(30) % 5, cv=GroupKFold(3))
    assert grouped.cv_accuracy_ == np.mean(decided == y)
    assert clone(grouped).get_params()["cv"].n_splits == 3


@pytest.mark.parametrize("state", [None, np.random.RandomState(0)])
def test_a_random_state_gives_the_seed(data: tuple, state: object) -> None:
    paths, y = data
    assert CNNCodesClassifier(C=0.1, cv=2, random_state=state, **SMALL).fit(paths, y).cv_accuracy_ > 0.5


@pytest.mark.parametrize(("clf", "reference"), [("logreg", LogisticRegression), ("svm", LinearSVC)])
def test_weights_are_those_of_scikit_learn(data: tuple, clf: str, reference: type) -> None:
    paths, y = data
    weight = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    classifier = CNNCodesClassifier(clf=clf, C=0.05, scale="standard", cv=2, **SMALL).fit(paths, y, weight)
    rows = classifier.probe_[0].transform(classifier.codes_.transform(paths))
    settings = {"tol": 1e-9, "max_iter": 100_000} | ({"dual": True} if clf == "svm" else {})
    expected = reference(C=0.05, **settings).fit(rows, y, sample_weight=weight)
    np.testing.assert_allclose(classifier.decision_function(paths), expected.decision_function(rows), atol=1e-3)
    used = np.flatnonzero(weight)
    assert 15 < len(used) < 30
    codes, right = classifier.codes_.transform(paths), []
    for places in make_folds(y[used], cv=2, seed=0)[0]:
        train, test = (used[place] for place in places)
        scaler = StandardScaler().fit(codes[train])
        fitted = reference(C=0.05, **settings).fit(scaler.transform(codes[train]), y[train], weight[train])
        right += (fitted.predict(scaler.transform(codes[test])) == y[test]).tolist()
    assert classifier.cv_accuracy_ == np.mean(right)
    without = CNNCodesClassifier(clf=clf, C=0.05, scale="standard", cv=2, **SMALL)
    without.fit([paths[row] for row in used], y[used], weight[used])
    np.testing.assert_array_equal(without.decision_function(paths), classifier.decision_function(paths))
    alike = CNNCodesClassifier(clf=clf, C=0.05, cv=2, **SMALL)
    plain = alike.fit(paths, y).decision_function(paths)
    np.testing.assert_allclose(alike.fit(paths, y, np.ones(30)).decision_function(paths), plain, atol=1e-6)
    assert classifier.score(paths, y, weight) == np.average(classifier.predict(paths) == y, weights=weight)


def test_a_class_without_a_weight_is_no_class(data: tuple) -> None:
    paths, y = data
    weight = (y != "Bag").astype(float)
    for cv in (2, StratifiedKFold(2), list(StratifiedKFold(2).split(y, y))):
        classifier = CNNCodesClassifier(C=0.1, cv=cv, **SMALL).fit(paths, y, weight)
        assert classifier.classes_.tolist() == ["Sandal", "Trouser"]
        assert np.mean(classifier.predict(paths)[y != "Bag"] == y[y != "Bag"]) > 0.8
    with pytest.raises(SettingError, match="positive for no image"):
        classifier.set_params(cv=2).fit(paths, y, -weight)


def test_a_set_of_images_is_taken_apart_into_folds(data: tuple) -> None:
    paths, y = data
    classifier = CNNCodesClassifier(C=0.1, cv=2, **SMALL)
    expected = cross_val_score(classifier, paths, y, cv=2)
    np.testing.assert_array_equal(cross_val_score(classifier, load_images(paths), y, cv=2), expected)


def test_a_search_over_the_layers_with_groups_outside(data: tuple, tmp_path: Path) -> None:
    paths, y = data
    frame = pd.DataFrame({"path": paths}, index=[f"row{i}" for i in range(30)])
    classifier = CNNCodesClassifier(C=0.1, cv=2, image_size=32, cache=tmp_path / "codes.h5")
    groups = np.arange(30) % 6
    search = GridSearchCV(classifier, {"layer": ["layer1", "layer3"], "clf": ["svm"]}, cv=GroupKFold(2))
    search.fit(frame, y, groups=groups)
    assert search.best_estimator_.layer == search.best_params_["layer"]
    scores = cross_validate(search.best_estimator_, frame[["path"]], y, groups=groups, cv=GroupKFold(3))
    assert len(scores["test_score"]) == 3
    assert search.best_estimator_.set_params(layer="layer2").layer == "layer2"
