"""Which rows of a codes file train a probe, and which are held out."""

from __future__ import annotations

import numpy as np

from cnncodes.codes import CodesFile
from cnncodes.errors import ProbeError

__all__ = ["split_rows"]


def split_rows(file: CodesFile) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the rows to train on, those held out, and notes for the user.

    Where there is a split ``train``, those are trained on, and ``test`` (or else ``val``) is held out; otherwise all
    labelled images are trained on.

    Returns
    -------
    train, held_out : ndarray of int
    notes : list of str

    Raises
    ------
    ProbeError
        The extraction is not finished, or no image has a label.
    """
    counts = file.counts
    if counts["pending"]:
        raise ProbeError(
            f"{file.path}: {counts['pending']} of {file.n} images are not extracted yet; "
            "run the same `cnncodes extract` again to finish it"
        )
    notes = [f"{counts['failed']} images that could not be read are left out"] if counts["failed"] else []
    if shard := file.description.get("shard"):
        notes.append(f"{file.path} is part {shard['part']} of {shard['of']} only; `cnncodes merge` joins the parts")
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
        return file.rows(), np.empty(0, int), notes
    held_out = next((name for name in ("test", "val") if name in splits), None)
    if unused := sorted(splits - {"train", held_out}):
        notes.append(f"images of the split {', '.join(unused)} are not used; held out is {held_out}")
    return file.rows("train"), file.rows(held_out) if held_out else np.empty(0, int), notes
