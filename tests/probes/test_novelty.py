"""Novelty: cosines against scikit-learn's, and what the share claims about new rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import cnncodes.probes.novelty
from cnncodes.probes.folds import make_folds
from cnncodes.probes.novelty import MAX_REFERENCE, cosine_to_nearest, learn_familiarity, novelty

MEANS = np.random.default_rng(1).normal(size=(4, 12))


def rows_of(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 4
    return MEANS[truth] + 3 + rng.normal(size=(n, 12)), truth


def learnt(X: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return learn_familiarity(lambda rows: X[rows], truth, make_folds(truth)[0])


def test_cosine_is_that_of_scikit_learn():
    X, _ = rows_of(30, 0)
    middle = MEANS.mean(axis=0)
    expected = cosine_similarity(X - middle, MEANS - middle).max(axis=1)
    np.testing.assert_allclose(cosine_to_nearest(X, MEANS), expected, rtol=1e-12)


def test_code_in_the_middle_and_means_that_are_all_the_same_give_0():
    assert cosine_to_nearest(MEANS.mean(axis=0)[None], MEANS).tolist() == [0]
    assert cosine_to_nearest(np.ones((1, 3)), np.zeros((2, 3))).tolist() == [0]


def test_reference_is_that_of_a_plain_loop_which_leaves_each_fold_out(monkeypatch):
    X, truth = rows_of(60, 0)
    folds, _ = make_folds(truth, cv=3)
    cosines = []
    for train, test in folds:
        means = np.stack([X[train][truth[train] == label].mean(axis=0) for label in range(4)])
        cosines += cosine_to_nearest(X[test], means).tolist()
    monkeypatch.setattr(cnncodes.probes.novelty, "ROWS", 7)
    means, reference = learn_familiarity(lambda rows: X[rows], truth, folds)
    np.testing.assert_allclose(reference, np.sort(cosines), rtol=1e-10)
    np.testing.assert_allclose(means, [X[truth == label].mean(axis=0) for label in range(4)], rtol=1e-10)


def test_long_reference_is_thinned_evenly_and_keeps_its_ends():
    X, truth = rows_of(5000, 0)
    _, reference = learnt(X, truth)
    assert len(reference) == MAX_REFERENCE
    shares = novelty(cosine_to_nearest(*rows_of(5000, 1)[:1], MEANS + 3), reference)
    np.testing.assert_allclose(np.quantile(shares, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


@pytest.mark.parametrize("n", [40, 400])
def test_new_rows_of_the_known_classes_exceed_a_share_as_often_as_it_says(n):
    exceed = []
    for seed in range(40):
        means, reference = learnt(*rows_of(n, seed))
        new, _ = rows_of(500, 1000 + seed)
        exceed.append(np.mean(novelty(cosine_to_nearest(new, means), reference) >= 0.9))
    assert np.mean(exceed) == pytest.approx(0.1, abs=0.03)


def test_novelty_is_the_share_that_is_more_familiar():
    reference = np.array([-0.5, 0.2, 0.2, 0.9])
    cosines = [-1.0, -0.5, 0.2, 0.5, 1.0]
    expected = [np.sum(reference > value) / 5 for value in cosines]
    assert novelty(np.array(cosines), reference).tolist() == expected
