"""Fitted models: their scores are those of plain scikit-learn, and what cannot be fitted is one line."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from digit_codes import Y_DIGITS, names, write_codes
from digit_models import N_TEST, N_TRAIN, codes_of, plain
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from cnncodes.errors import (
    CodesFileError,
    ProbeError,
    SettingError,
)
from cnncodes.models.fit import fit


@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_scores_are_those_of_plain_scikit_learn(clf, split_codes):
    model = fit(split_codes, clf=clf, layers=["penultimate", "layer1"], C=0.01)
    X, y = codes_of(split_codes, ["penultimate", "layer1"], "train")
    X_test, y_test = codes_of(split_codes, ["penultimate", "layer1"], "test")
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    expected = np.mean(cross_val_predict(plain(clf, 0.01, widths=(40, 24)), X, y, cv=folds) == y)
    assert model.scores["cv_accuracy"] == pytest.approx(expected, abs=1.01 / N_TRAIN)
    expected = plain(clf, 0.01, widths=(40, 24)).fit(X, y).score(X_test, y_test)
    assert model.scores["test_accuracy"] == pytest.approx(expected, abs=1.01 / N_TEST)
    assert model.scores["baseline_accuracy"] == max(Counter(y.tolist()).values()) / N_TRAIN


def test_scores_have_the_keys_scripts_rely_on(model):
    promised = {"n", "classes", "clf", "layers", "C", "cv_accuracy", "cv_interval", "baseline_accuracy"}
    assert promised | {"test_accuracy", "test_interval", "protocol"} <= model.scores.keys()
    assert json.loads(json.dumps(model.scores.to_dict(), allow_nan=False)) == model.scores
    assert model.scores["n"] == N_TRAIN
    low, high = model.scores["cv_interval"]
    assert low < model.scores["cv_accuracy"] < high
    assert "95 %" in model.scores["protocol"]


def test_two_fits_of_the_same_codes_give_the_same_bytes(split_codes, tmp_path, caplog):
    caplog.set_level("INFO", "cnncodes.models.fit")
    for name in ("one", "other"):
        fit(split_codes, C=0.01).save(tmp_path / name)
        assert re.fullmatch(r"fitted in \d+\.\d s", caplog.messages[-1])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_without_a_split_all_rows_train_and_nothing_is_held_out(pair_codes):
    model = fit(pair_codes, C=0.01)
    assert model.scores["n"] == 120
    assert "test_accuracy" not in model.scores


def test_several_codes_files_are_one_training_set(split_codes, tmp_path):
    rows, splits = np.arange(N_TRAIN + N_TEST), ["train"] * N_TRAIN + ["test"] * N_TEST
    cuts = [0, 100, N_TRAIN + 10, N_TRAIN + N_TEST]
    paths = [
        write_codes(tmp_path / f"{start}.h5", rows[start:stop], names(rows)[start:stop], splits[start:stop])
        for start, stop in pairwise(cuts)
    ]
    for name, codes in {"one": split_codes, "several": paths}.items():
        fit(codes, layers=["layer1", "penultimate"]).save(tmp_path / name)
    assert (tmp_path / "several").read_bytes() == (tmp_path / "one").read_bytes()
    with pytest.raises(CodesFileError, match="both have 90 images"):
        fit([paths[0], write_codes(tmp_path / "same.h5", rows[10:200], names(rows)[10:200])])


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


def test_held_out_class_without_training_images_is_noted(tmp_path):
    rows = np.flatnonzero(np.isin(Y_DIGITS, [1, 8, 9]))[:90]
    splits = ["test" if digit == 9 else "train" for digit in Y_DIGITS[rows]]
    scored = fit(write_codes(tmp_path / "codes.h5", rows, names(rows), splits), C=0.01)
    assert scored.scores["test_accuracy"] == 0.0
    assert any("always miss: digit 9" in note for note in scored.notes)


@pytest.mark.parametrize(
    ("options", "total"),
    [({"C": 0.1}, 2), ({}, 46), ({"nested": True, "C": 0.1, "cv": 3}, 5), ({"nested": True, "cv": 3}, 46 + 3 * 45)],
)
def test_progress_counts_values_of_C_and_the_fit(options, total, pair_codes):
    calls = []
    fit(pair_codes, progress=lambda *counts: calls.append(counts), **options)
    done = [steps for steps, _, _ in calls]
    assert {counts[1:] for counts in calls} == {(total, 0)}
    assert (done[0], done[-1]) == (0, total)
    assert done == sorted(done)
    if options == {}:
        assert done[:4] == [0, 1, 2, 3]
        assert done[-2:] == [45, 46]  # the values that are left out count as done
