"""Folds: stratified, grouped, and refused where they cannot be."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from cnncodes.errors import FoldsError, ProbeError, SettingError
from cnncodes.probes.folds import make_folds, scorable


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
    assert notes == ["2 folds instead of 5: the 10 images of the class 'b' make 2 groups of images that stay together"]


def test_groups_are_dealt_as_scikit_learn_does_where_that_is_a_split():
    y, groups = np.array(["a", "b", "c"] * 20), np.arange(60).astype(str)
    groups[:30] = groups[30:]
    plain = StratifiedGroupKFold(4, shuffle=True, random_state=7).split(y, y, groups)
    folds, notes = make_folds(y, groups, cv=4, seed=7)
    assert [test.tolist() for _, test in folds] == [test.tolist() for _, test in plain]
    assert notes == []


def ways_to_group(n: int) -> list[list[int]]:
    """Return all ways to put n images into groups."""
    if n == 0:
        return [[]]
    return [[*way, group] for way in ways_to_group(n - 1) for group in range(max(way, default=-1) + 2)]


def test_a_split_is_found_wherever_each_class_has_two_groups():
    """Six images of three classes, in all ways in which groups go across classes, for several seeds."""
    y = np.array(list("aabbcc"))
    n_folds = Counter()
    for way in ways_to_group(6):
        groups = np.array([f"g{number}" for number in way])
        if any(len(set(groups[y == name])) < 2 for name in "abc"):
            continue
        sides = product((0, 1), repeat=max(way) + 1)
        in_two = any(
            all(len({side[g] for g, name in zip(way, y, strict=True) if name == c}) == 2 for c in "abc")
            for side in sides
        )
        for seed in range(3):
            folds, notes = make_folds(y, groups, cv=2, seed=seed)
            again = make_folds(y, groups, cv=2, seed=seed)[0]
            assert [test.tolist() for _, test in folds] == [test.tolist() for _, test in again]
            assert sorted(np.concatenate([test for _, test in folds])) == list(range(6))
            for train, test in folds:
                assert set(y[train]) == set("abc")
                assert not set(groups[train]) & set(groups[test])
            assert len(folds) == 2 if in_two else len(folds) > 2
            assert in_two or notes == ["3 folds instead of 2: one of these would hold out all images of a class"]
            n_folds[len(folds)] += 1
    assert n_folds == {2: 79 * 3, 3: 8 * 3}


def test_classes_that_lie_in_one_fold_are_left_out_and_the_reason_is_named():
    y = np.array(list("aabb") + ["copies"] * 2 + ["family"] * 3 + ["single", "sole"])
    own = np.array([""] * 6 + ["smith"] * 3 + [""] * 2)
    groups = np.where(y == "copies", "0", own)
    rows, notes = scorable(y, groups, own)
    assert rows.tolist() == [0, 1, 2, 3]
    end = "which cannot be both learned from and tested on; add"
    assert notes == [
        f"the class 'copies' has near-duplicates only, {end} other images; no score counts it until then",
        f"the class 'family' has images of one group only, {end} images of other groups; no score counts it until then",
        f"the classes 'single', 'sole' have one image each, {end} images; no score counts them until then",
    ]
    rows, notes = scorable(y[:4], groups[:4])
    assert (rows.tolist(), notes) == ([0, 1, 2, 3], [])
    with pytest.raises(FoldsError, match="fewer than two classes can be scored: the class 'b' has one image only"):
        scorable(y[:3], groups[:3])


def test_long_names_of_classes_are_shortened():
    with pytest.raises(FoldsError) as caught:
        make_folds(np.array(["a"] * 4 + ["b" * 5000]))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        (["a"] * 4, None, "one class only, 'a'"),
        ([], None, "there are no labelled images"),
        (["a"] * 4 + ["b"], None, "the class 'b' has one image only"),
        (["a"] * 4 + ["b", "c"], None, "the classes 'b', 'c' have one image each"),
        (
            ["a"] * 4 + ["b"] * 4,
            list("wxyz") + ["g"] * 4,
            "the class 'b' has only images that stay together (of one group, or near-duplicates)",
        ),
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


@pytest.mark.parametrize("labels", [["0", "1", "2"], [0, 1, 2], [0.0, 1.0, 2.0]])
def test_a_class_of_one_image_is_named_whatever_the_type_of_its_label(labels: list[object]) -> None:
    y = np.array(labels[:2] * 4 + labels[2:])
    with pytest.raises(FoldsError, match=f"^the class {re.escape(repr(labels[2]))} has one image only, which "):
        make_folds(y, cv=2)
