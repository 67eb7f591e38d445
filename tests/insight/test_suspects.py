"""Suspect labels: which C judges them, on which images, and when nothing is suspected."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from cnncodes import audit, extract
from cnncodes.insight.label_errors import find_label_errors
from cnncodes.insight.suspects import SAMPLE_ROWS, out_of_fold
from cnncodes.probes.decision_values import softmax


def test_of_many_images_a_sample_says_which_C_and_all_are_judged() -> None:
    X, truth = load_digits(return_X_y=True)
    shares = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        given = truth.copy()
        wrong = rng.choice(len(X), 90, replace=False)
        given[wrong] = (given[wrong] + rng.integers(1, 10, 90)) % 10
        search = out_of_fold(X.astype(np.float32), given)
        assert search.Cs.shape == (1,)
        assert sorted(np.concatenate([test for _, test in search.folds]).tolist()) == list(range(len(X)))
        found = find_label_errors(given, softmax(search.decision, search.temperature))
        shares.append((np.isin(wrong, found).mean(), np.isin(found, wrong).mean()))
    assert np.mean(shares, axis=0)[0] > 0.8
    assert np.min(shares, axis=0)[1] > 0.9
    some = rng.choice(len(X), SAMPLE_ROWS, replace=False)
    assert len(out_of_fold(X[some].astype(np.float32), given[some]).Cs) > 1


def test_the_sample_has_some_of_each_of_many_classes() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(150), 12)
    X = rng.normal(size=(150, 20))[y] + 0.3 * rng.normal(size=(len(y), 20))
    search = out_of_fold(X.astype(np.float32), y, groups=np.arange(len(y)).astype(str))
    assert search.Cs.shape == (1,)
    assert np.mean(search.predictions == y) > 0.95


def test_all_images_are_searched_where_the_sample_lacks_a_group() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(["many", "few"], [1400, 12])
    X = rng.normal(size=(len(y), 5)).astype(np.float32) + (y == "few")[:, None]
    groups = np.arange(len(y)).astype(str)
    groups[1400:1411] = "a flock"
    for seed in range(5):  # in some samples the only other one is left out
        assert len(out_of_fold(X, y, groups, seed=seed).predictions) == len(y)


def test_a_classifier_that_cannot_tell_suspects_nothing(small_sample: Path, tmp_path: Path) -> None:
    for name in ("Bag", "Sandal"):
        (tmp_path / "images" / name).mkdir(parents=True)
    for i, path in enumerate(sorted((small_sample / "train").rglob("*.png"))[:20]):  # labels at random
        shutil.copy(path, tmp_path / "images" / ("Bag", "Sandal")[i % 2])
    extract(tmp_path / "images", tmp_path / "codes.h5", layers=["penultimate"])
    found = audit(tmp_path / "codes.h5")
    assert found.accuracy < 0.75
    assert found.baseline_accuracy == 0.5
    assert found.suspects == []
    assert any("not significantly more than the 50.0% of the most frequent class" in note for note in found.notes)
