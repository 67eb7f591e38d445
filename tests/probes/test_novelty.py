"""Novelty: cosines against scikit-learn's, and what the share claims about new rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from cnncodes.probes.folds import make_folds
from cnncodes.probes.novelty import MAX_CODES, closeness, cosine_to_nearest, learn_familiarity, novelty

MEANS = np.random.default_rng(1).normal(size=(4, 12))


def rows_of(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 4
    return MEANS[truth] + 3 + rng.normal(size=(n, 12)), truth


def learnt(X: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return learn_familiarity(lambda rows: X[rows], truth, make_folds(truth)[0])


def test_cosine_is_that_of_scikit_learn():
    X, _ = rows_of(30, 0)
    middle = MEANS.mean(axis=0)
    expected = cosine_similarity(X - middle, MEANS - middle).max(axis=1)
    np.testing.assert_allclose(cosine_to_nearest(X, MEANS), expected, rtol=1e-12)


def test_code_in_the_middle_and_means_that_are_all_the_same_give_0():
    assert cosine_to_nearest(MEANS.mean(axis=0)[None], MEANS).tolist() == [0]
    assert cosine_to_nearest(np.ones((1, 3)), np.zeros((2, 3))).tolist() == [0]


def plain_closeness(new: np.ndarray, codes: np.ndarray, means: np.ndarray) -> np.ndarray:
    unit, middle = new / np.linalg.norm(new, axis=1, keepdims=True), means.mean(axis=0)
    nearest = np.sort(cosine_similarity(new, codes), axis=1)[:, -3:].mean(axis=1)
    return 0.8 * nearest + 0.2 * cosine_similarity(unit - middle, means - middle).max(axis=1)


def test_reference_is_that_of_a_plain_loop_which_leaves_each_fold_out():
    X, truth = rows_of(60, 0)
    folds, _ = make_folds(truth, cv=3)
    kept, means, reference = learn_familiarity(lambda rows: X[rows], truth, folds)
    U = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(kept, U, atol=1e-3)
    np.testing.assert_allclose(means, [U[truth == label].mean(axis=0) for label in range(4)], atol=1e-3)
    expected = []
    for train, test in folds:
        of_classes = np.stack([U[train][truth[train] == label].mean(axis=0) for label in range(4)])
        expected += plain_closeness(X[test], X[train], of_classes).tolist()
    np.testing.assert_allclose(reference, np.sort(expected), atol=2e-3)


def test_a_copy_in_the_same_fold_does_not_make_its_twin_familiar():
    X, truth = rows_of(40, 0)
    twins = np.concatenate([X, X])
    folds, _ = make_folds(np.tile(truth, 2), groups=np.tile(np.arange(40), 2))
    *_, reference = learn_familiarity(lambda rows: twins[rows], np.tile(truth, 2), folds)
    near = np.sort(cosine_similarity(X), axis=1)[:, -2]  # of the nearest other image
    assert reference.max() < 0.8 * near.max() + 0.2


def test_many_images_are_a_sample_in_which_each_class_has_its_share():
    X, truth = rows_of(5000, 0)
    truth[truth == 3] = np.where(np.arange((truth == 3).sum()) < 2, 3, 0)
    kept, means, reference = learnt(X, truth)
    assert len(kept) == len(reference)
    assert MAX_CODES - 4 <= len(kept) <= MAX_CODES + 4
    assert len(means) == 4
    assert kept.dtype == np.float16


def test_a_million_rows_take_few_bytes_each() -> None:
    n, asked = 1_000_000, []
    truth = np.arange(n) % 10
    folds = [(np.flatnonzero(truth % 5 != i), np.flatnonzero(truth % 5 == i)) for i in range(5)]

    def codes(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return np.random.default_rng(0).normal(size=(len(rows), 1280))

    tracemalloc.start()
    learn_familiarity(codes, truth, folds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(asked) <= MAX_CODES + 1
    assert peak < 64 * n + 32 * 1280 * MAX_CODES  # of each row a few numbers; of each kept code a few copies


@pytest.mark.parametrize("n", [40, 400, 2000])
def test_new_rows_of_the_known_classes_exceed_a_share_as_often_as_it_says(n):
    exceed = []
    for seed in range(40):
        kept, means, reference = learnt(*rows_of(n, seed))
        new, _ = rows_of(500, 1000 + seed)
        exceed.append(np.mean(novelty(closeness(new, kept, means), reference) >= 0.9))
    assert np.mean(exceed) == pytest.approx(0.1, abs=0.03)


def test_novelty_is_the_share_that_is_more_familiar():
    reference = np.array([-0.5, 0.2, 0.2, 0.9])
    cosines = [-1.0, -0.5, 0.2, 0.5, 1.0]
    expected = [np.sum(reference > value) / 5 for value in cosines]
    assert novelty(np.array(cosines), reference).tolist() == expected
