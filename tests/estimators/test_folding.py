"""Folds as a user of scikit-learn says them: a number, a splitter, or the splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, ShuffleSplit, StratifiedKFold

from cnncodes.errors import FoldsError, SettingError
from cnncodes.estimators.folding import folding_of

Y = np.array(["a", "b", "c"] * 4)


@pytest.mark.parametrize(
    "splitter", [StratifiedKFold(3), KFold(4, shuffle=True, random_state=0), LeaveOneOut(), GroupKFold(2)]
)
def test_folds_are_those_of_the_splitter_or_of_its_splits(splitter: Any) -> None:
    groups = np.arange(12) // 3 if isinstance(splitter, GroupKFold) else None
    expected = list(splitter.split(Y, Y, groups))
    masks = [(np.isin(np.arange(12), train), np.isin(np.arange(12), test)) for train, test in expected]
    for cv in (splitter, expected, iter(expected), [(a.tolist(), b.tolist()) for a, b in expected], masks):
        folds = folding_of(cv, None, Y, groups)["folds"]
        assert len(folds) == len(expected)
        for fold, splits in zip(folds, expected, strict=True):
            np.testing.assert_array_equal(fold[0], splits[0])
            np.testing.assert_array_equal(fold[1], splits[1])


def test_folds_of_some_images_number_these() -> None:
    rows = np.array([0, 1, 3, 4, 5, 6, 7, 8, 10, 11])
    for (train, test), (inside, outside) in zip(
        KFold(3).split(Y), folding_of(KFold(3), 0, Y, rows=rows)["folds"], strict=True
    ):
        assert rows[inside].tolist() == [row for row in train if row in rows]
        assert rows[outside].tolist() == [row for row in test if row in rows]
    assert folding_of(3, 0, Y, np.arange(12), rows)["groups"].tolist() == list(map(str, rows))


def test_a_number_is_passed_on_with_a_seed() -> None:
    assert folding_of(3, 7, Y, None) == {"cv": 3, "seed": 7, "groups": None}
    assert folding_of(None, 7, Y, None)["cv"] == 5
    assert folding_of(np.int64(3), np.int64(7), Y, list(range(12)))["groups"].tolist() == list(map(str, range(12)))
    first, second = (folding_of(3, np.random.RandomState(1), Y, None)["seed"] for _ in range(2))
    assert first == second == np.random.RandomState(1).randint(2**31 - 1)
    state = np.random.RandomState(1)
    assert folding_of(3, state, Y, None)["seed"] != folding_of(3, state, Y, None)["seed"]
    np.random.seed(3)  # noqa: NPY002 - which is where scikit-learn takes the seed from
    drawn = folding_of(3, None, Y, None)["seed"]
    np.random.seed(3)  # noqa: NPY002
    assert drawn == np.random.randint(2**31 - 1)  # noqa: NPY002


@pytest.mark.parametrize(
    ("cv", "words"),
    [
        (ShuffleSplit(3, random_state=0), r"cv holds image \d+ .* out \d times, and each must be held out once"),
        ([], "cv has no splits; a generator has them once only, so give a list"),
        ([(np.arange(12), np.arange(13))], "cv does not split these 12 images: index 12 is out of bounds"),
        ([1, 2], "cv does not split these 12 images: cannot unpack non-iterable int"),
        ([("a", "b")], "cv does not split these 12 images: "),
        (GroupKFold(2), "cv does not split these 12 images: The 'groups' parameter should not be None"),
        ([(np.arange(12), np.arange(6)), (np.arange(12), np.arange(6, 12))], "learns from images that it holds out"),
    ],
)
def test_splits_that_do_not_answer_for_each_image_once_are_refused(cv: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        folding_of(cv, 0, Y, None)


def test_a_fold_without_a_class_is_refused() -> None:
    with pytest.raises(FoldsError, match=r"a fold of cv has no image of 'a' to learn from; deal by class"):
        folding_of(KFold(3), 0, np.sort(Y), None)
