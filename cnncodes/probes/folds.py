"""Folds of cross-validation: stratified, and grouped where images belong together."""

from __future__ import annotations

from collections import Counter

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from cnncodes.errors import FoldsError, SettingError, parameter
from cnncodes.vocabulary import MAX_SEED

__all__ = ["Folds", "make_folds"]

Folds = list[tuple[np.ndarray, np.ndarray]]  # row numbers to train on, and those held out


def make_folds(
    y: np.ndarray, groups: np.ndarray | None = None, *, cv: int = 5, seed: int = 0
) -> tuple[Folds, list[str]]:
    """Split rows into stratified folds; the images of a group stay on one side.

    Parameters
    ----------
    y : ndarray, shape (n_samples,)
    groups : ndarray, shape (n_samples,), optional
        An empty string means a group of its own.
    cv : int
        A class with fewer images is held out in some folds only. Where all have fewer, or one has fewer groups, fewer
        folds are made. A note says so.
    seed : int

    Returns
    -------
    folds : list of (train, test) index arrays
    notes : list of str

    Raises
    ------
    FoldsError
        There is one class only, or a class that cannot be on both sides.
    SettingError
        Fewer than two folds are asked for, or there is no such seed.
    """
    if not 0 <= seed <= MAX_SEED:
        raise SettingError(f"the seed is {seed}; it must be between 0 and 2**32 - 1")
    if cv < 2:
        raise SettingError(f"{cv} folds; cross-validation needs at least 2, one to learn from and one to test on")
    counts = Counter(y.tolist())
    if len(counts) < 2:
        only = f"there is one class only, {next(iter(counts))!r}" if counts else "there are no labelled images"
        raise FoldsError(f"{only}; a classifier needs at least two, each a folder of images")
    unit = "image"
    if groups is not None and (groups != "").any():
        groups = np.array([group or f"\0{i}" for i, group in enumerate(groups)])
        counts = Counter(label for label, _ in set(zip(y.tolist(), groups.tolist(), strict=True)))
        unit = "group"
    else:
        groups = None
    rarest, fewest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if fewest < 2:
        single = sorted(label for label, count in counts.items() if count == 1)
        more = f" (and {len(single) - 1} more)" if len(single) > 1 else ""
        raise FoldsError(
            f"the class {single[0]!r}{more} has one {unit} only, which cannot be both learned from and tested on; "
            f"add {unit}s of it, or take the class out"
        )
    notes = []
    if groups is None and fewest < cv <= max(counts.values()):
        notes.append(f"the class {rarest!r} has {fewest} images: it is held out in {fewest} of {cv} folds")
        return _dealt(y, cv, seed), notes
    if fewest < cv:
        notes.append(f"{fewest} folds instead of {cv}: the class {rarest!r} has {fewest} {unit}s")
        cv = fewest
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_splits=cv, shuffle=True, random_state=seed)
    folds = [(train, test) for train, test in splitter.split(np.zeros(len(y)), y, groups) if len(test)]
    for train, _ in folds:
        if missing := counts.keys() - set(y[train].tolist()):
            raise FoldsError(
                f"a fold has no image of {sorted(missing)[0]!r} to learn from: its groups are too few; "
                f"use {parameter('cv', 2)}"
            )
    return folds, notes


def _dealt(y: np.ndarray, cv: int, seed: int) -> Folds:
    """Deal the images of one class after the other to the folds in turn, so that no fold holds out a whole class."""
    mixed = np.random.default_rng(seed).permutation(len(y))
    fold = np.empty(len(y), int)
    fold[mixed[np.argsort(y[mixed], kind="stable")]] = np.arange(len(y)) % cv
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(cv)]
