"""The split of a codes file: what trains, what is held out, and what no score counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from digit_codes import write_codes

from cnncodes.codes.file import CodesFile
from cnncodes.errors import ProbeError
from cnncodes.probes.split import groups_in_both, leave_out_seen, split_rows


def rows_of(path: Path) -> tuple[list[int], list[int], list[str]]:
    with CodesFile.open(path) as file:
        split = split_rows(file)
    return split.train.tolist(), split.held_out.tolist(), split.notes


@pytest.mark.parametrize(
    ("splits", "train", "held_out", "note"),
    [
        (None, [0, 1, 2, 3], [], None),
        (["train", "test", "train", "test"], [0, 2], [1, 3], None),
        (["train", "val", "train", "val"], [0, 2], [1, 3], None),
        (["train", "val", "test", "train"], [0, 3], [2], "images of the split val are not used; held out is test"),
        (["train", "test", "", "train"], [0, 3], [1], "1 labelled images without a split are not used"),
        (["val", "test", "val", "test"], [0, 1, 2, 3], [], "there is no split train: the images of test, val are"),
    ],
)
def test_what_trains_and_what_is_held_out(
    splits: list[str] | None, train: list[int], held_out: list[int], note: str | None, tmp_path: Path
) -> None:
    path = write_codes(tmp_path / "codes.h5", np.arange(4), list("abab"), splits)
    *rows, notes = rows_of(path)
    assert rows == [train, held_out]
    assert len(notes) == (note is not None)
    assert note is None or notes[0].startswith(note)


def test_images_that_could_not_be_read_are_left_out(tmp_path: Path) -> None:
    train, held_out, notes = rows_of(write_codes(tmp_path / "codes.h5", np.arange(4), list("abab"), failed=(1,)))
    assert (train, held_out) == ([0, 2, 3], [])
    assert notes == ["1 images that could not be read are left out"]


def test_without_labels_or_before_the_end_nothing_is_split(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="the images have no labels"):
        rows_of(write_codes(tmp_path / "bare.h5", np.arange(4), None))
    with pytest.raises(ProbeError, match="2 of 4 images are not extracted yet"):
        rows_of(write_codes(tmp_path / "half.h5", np.arange(4), list("abab"), done=2))


def test_a_note_names_three_groups_at_most() -> None:
    groups = np.array(["e", "d", "c", "b", "a", ""])
    assert groups_in_both(groups, groups) == (
        "5 held-out images of 5 groups that have training images, too ('a', 'b', 'c' and 2 more)"
    )
    assert groups_in_both(groups, np.array(["", "z"])) == ""


def test_others_of_the_groups_of_seen_images_are_left_out() -> None:
    seen, groups = np.array([True, False, False, False]), np.array(["a", "a", "", "b"])
    unseen, grouped, notes = leave_out_seen(seen, groups)
    assert (unseen.tolist(), grouped.tolist()) == ([False, False, True, True], [False, True, False, False])
    assert notes == ["left out of the score: 1 held-out image of 1 group that has training images, too ('a')"]
    assert leave_out_seen(seen, np.array([""] * 4)).notes == []
