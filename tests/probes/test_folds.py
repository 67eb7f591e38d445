"""Folds: stratified, grouped, and refused where they cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from cnncodes.errors import ProbeError, SettingError
from cnncodes.probes.folds import make_folds


def test_folds_are_those_of_stratified_k_fold(digits):
    _, y = digits
    folds, notes = make_folds(y, cv=4, seed=3)
    plain = StratifiedKFold(4, shuffle=True, random_state=3).split(y, y)
    for (train, test), (plain_train, plain_test) in zip(folds, plain, strict=True):
        np.testing.assert_array_equal(train, plain_train)
        np.testing.assert_array_equal(test, plain_test)
    assert notes == []


def test_folds_depend_on_the_seed_and_not_on_global_random_state(digits):
    _, y = digits
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (make_folds(y, seed=seed)[0] for seed in (0, 0, 1))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_group_stays_on_one_side_and_no_group_is_a_group_of_its_own():
    y = np.array(["a", "b"] * 30)
    groups = np.array([f"g{i // 6}" for i in range(36)] + [""] * 24)
    folds, _ = make_folds(y, groups, cv=3)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(60))
    for train, test in folds:
        assert not (set(groups[train]) & set(groups[test])) - {""}
    assert all((groups[test] == "").any() and (groups[train] == "").any() for train, test in folds)


def test_small_class_is_held_out_in_some_folds_only_with_a_note():
    y = np.array(["a"] * 10 + ["b"] * 3)
    folds, notes = make_folds(y, cv=5)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(13))
    assert sorted((y[test] == "b").sum() for _, test in folds) == [0, 0, 1, 1, 1]
    assert all(set(y[train]) == {"a", "b"} for train, _ in folds)
    assert notes == ["the class 'b' has 3 images: it is held out in 3 of 5 folds"]


def test_few_groups_reduce_the_folds_with_a_note():
    y = np.array(["a"] * 10 + ["b"] * 10)
    folds, notes = make_folds(y, np.array([f"{i % 10}" for i in range(10)] + ["x"] * 5 + ["y"] * 5), cv=5)
    assert len(folds) == 2
    assert notes == ["2 folds instead of 5: the class 'b' has 2 groups"]


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        (["a"] * 4, None, "one class only, 'a'"),
        ([], None, "there are no labelled images"),
        (["a"] * 4 + ["b"], None, "the class 'b' has one image only"),
        (["a"] * 4 + ["b", "c"], None, "the class 'b' (and 1 more) has one image only"),
        (["a"] * 4 + ["b"] * 4, list("wxyz") + ["g"] * 4, "the class 'b' has one group only"),
    ],
)
def test_labels_that_cannot_be_cross_validated_say_what_to_do(y, groups, message):
    with pytest.raises(ProbeError) as caught:
        make_folds(np.array(y, str), None if groups is None else np.array(groups))
    assert message in str(caught.value)
    assert "add " in str(caught.value) or "at least two" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fewer_than_two_folds_are_refused():
    with pytest.raises(SettingError, match=r"1 folds; .* at least 2"):
        make_folds(np.array(["a", "b"] * 5), cv=1)
