"""Which rows of a codes file train a probe, and which are held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.errors import ProbeError

__all__ = ["SplitRows", "Unseen", "groups_in_both", "leave_out_seen", "of_known_groups", "split_rows"]

MAX_NAMED = 3  # groups that a note names


class SplitRows(NamedTuple):
    """Rows of a codes file by what they are for, ascending, and notes for the user."""

    train: np.ndarray
    held_out: np.ndarray
    grouped: np.ndarray  # held out by the split, but of a group that has training images: no score counts them
    notes: list[str]


def split_rows(file: CodesFile) -> SplitRows:
    """Return the rows to train on, and those held out.

    Where there is a split ``train``, those are trained on, and ``test`` (or else ``val``) is held out; otherwise all
    labelled images are trained on.

    Raises
    ------
    ProbeError
        The extraction is not finished, or no image has a label.
    """
    counts = file.counts
    if n_missing := file.n_missing:
        raise ProbeError(
            f"{file.path}: {n_missing} of {file.n} images are not extracted yet; "
            "run the same `cnncodes extract` again to finish it"
        )
    notes = [f"{counts['failed']} images that could not be read are left out"] if counts["failed"] else []
    if shard := file.provenance.shard:
        notes.append(f"{file.path} is part {shard.part} of {shard.of} only; `cnncodes merge` joins the parts")
    notes += [
        f"of each image there are {n_views} views: all are trained on, and their scores are summed"
        for n_views in file.views
    ]
    if not (file.labels != "").any():
        raise ProbeError(
            f"{file.path}: the images have no labels; extract a folder of class folders, or a table with labels"
        )
    splits = set(file.splits[file.rows()]) - {""}
    if "train" not in splits:
        if len(splits) > 1:
            notes.append(f"there is no split train: the images of {', '.join(sorted(splits))} are taken together")
        return SplitRows(file.rows(), np.empty(0, int), np.empty(0, int), notes)
    held_out = next((name for name in ("test", "val") if name in splits), None)
    if unused := sorted(splits - {"train", held_out}):
        notes.append(f"images of the split {', '.join(unused)} are not used; held out is {held_out}")
    if n_without := int((file.splits[file.rows()] == "").sum()):
        notes.append(f"{n_without} labelled images without a split are not used, as others are of the split train")
    train, test = file.rows("train"), file.rows(held_out) if held_out else np.empty(0, int)
    grouped = of_known_groups(file.groups[test], file.groups[train])
    if grouped.any():
        notes.append(f"left out of the held-out score: {groups_in_both(file.groups[test], file.groups[train])}")
    return SplitRows(train, test[~grouped], test[grouped], notes)


def of_known_groups(groups: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return which images are of a group that others are of as well, shape (n,), bool; an empty string is no group.

    Examples
    --------
    >>> of_known_groups(np.array(["a", "b", ""]), np.array(["a", ""])).tolist()
    [True, False, False]
    """
    return (groups != "") & np.isin(groups, known)


def groups_in_both(groups: np.ndarray, known: np.ndarray) -> str:
    """Say which held-out images are of groups that have training images; an empty string where none is.

    Parameters
    ----------
    groups : ndarray of str, shape (n_held_out,)
    known : ndarray of str, shape (n_train,)

    Examples
    --------
    >>> groups_in_both(np.array(["a", "a", "b"]), np.array(["a", "c"]))
    "2 held-out images of 1 group that has training images, too ('a')"
    """
    shared = groups[of_known_groups(groups, known)].tolist()
    names = sorted(set(shared))
    if not names:
        return ""
    which = ", ".join(map(repr, names[:MAX_NAMED])) + f" and {len(names) - MAX_NAMED} more" * (len(names) > MAX_NAMED)
    images = f"{len(shared)} held-out image{'s' * (len(shared) > 1)}"
    have = "group that has" if len(names) == 1 else "groups that have"
    return f"{images} of {len(names)} {have} training images, too ({which})"


class Unseen(NamedTuple):
    """Which images a model can be scored on: it was fitted neither on them nor on others of their groups."""

    unseen: np.ndarray  # (n,) bool
    grouped: np.ndarray  # (n,) bool: not seen themselves, but of the group of one that was
    notes: list[str]


def leave_out_seen(seen: np.ndarray, groups: np.ndarray) -> Unseen:
    """Leave out of a score the images that a model was fitted on, and the others of their groups.

    Parameters
    ----------
    seen : ndarray of bool, shape (n,)
        Which images the model was fitted on.
    groups : ndarray of str, shape (n,)
        An empty string is no group.

    Examples
    --------
    >>> seen, groups = np.array([True, False, False]), np.array(["a", "a", "b"])
    >>> leave_out_seen(seen, groups).unseen.tolist()
    [False, False, True]
    """
    grouped = of_known_groups(groups, groups[seen]) & ~seen
    notes = []
    if grouped.any():
        notes.append(f"left out of the score: {groups_in_both(groups[grouped], groups[seen])}")
    return Unseen(~seen & ~grouped, grouped, notes)
