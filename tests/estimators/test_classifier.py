"""`CNNCodesClassifier`: labels, probabilities, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from cnncodes import CNNCodesClassifier
from cnncodes.errors import LabelsError
from cnncodes.images.loading import load_images


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
