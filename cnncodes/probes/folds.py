"""Folds of cross-validation: stratified, and grouped where images belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from cnncodes.display import shortened
from cnncodes.errors import FoldsError, SettingError
from cnncodes.vocabulary import MAX_SEED

__all__ = ["Folds", "Scorable", "make_folds", "scorable"]

Folds = list[tuple[np.ndarray, np.ndarray]]  # row numbers to train on, and those held out
MAX_NAMED = 3  # classes that an error or a note names
# Why all images of a class lie in one fold: of one class, of several, and what to add
UNSCORABLE = {
    "single": ("has one image only", "have one image each", "images"),
    "group": ("has images of one group only", "have images of one group each", "images of other groups"),
    "copies": ("has near-duplicates only", "have near-duplicates only", "other images"),
    "together": (
        "has only images that stay together (of one group, or near-duplicates)",
        "have only images that stay together (of one group, or near-duplicates)",
        "other images",
    ),
}
STEPS_IN_VAIN = 100  # before a fold is added to those that were asked for


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
        folds are made. More are made where groups hold several classes, and fewer folds would hold out all images of a
        class at once. A note says so.
    seed : int

    Returns
    -------
    folds : list of (train, test) index arrays
    notes : list of str

    Raises
    ------
    FoldsError
        There is one class only, or a class that cannot be on both sides: see `scorable`.
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
    units = _units(y, groups)
    rarest, fewest = min(units.items(), key=lambda item: (item[1], item[0]))
    if fewest < 2:
        reason = _reason(y == rarest, None)
        single = sorted(label for label, count in units.items() if count < 2 and _reason(y == label, None) == reason)
        raise FoldsError(f"{_unscorable(reason, single)}, or take the class out")
    if groups is None or not (groups != "").any():
        return _without_groups(y, cv, seed, rarest, fewest)
    n_folds = min(cv, fewest)
    groups = _named(groups)
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    folds = [(train, test) for train, test in splitter.split(np.zeros(len(y)), y, groups) if len(test)]
    if any(counts.keys() - set(y[train].tolist()) for train, _ in folds):
        folds = _never_whole_classes(y, groups, folds, seed)
    notes = []
    if len(folds) > n_folds:
        notes = [f"{len(folds)} folds instead of {n_folds}: one of these would hold out all images of a class"]
    elif fewest < cv:
        notes.append(
            f"{len(folds)} folds instead of {cv}: the {counts[rarest]} images of the class {rarest!r} make {fewest} "
            "groups of images that stay together"
        )
    return folds, notes


class Scorable(NamedTuple):
    """Which rows are of classes that can be both learned from and tested on, ascending, and notes on the others."""

    rows: np.ndarray
    notes: list[str]


def scorable(y: np.ndarray, groups: np.ndarray, own_groups: np.ndarray | None = None) -> Scorable:
    """Leave out of a cross-validation the classes of which all images lie in one fold: a single one, or one group.

    Parameters
    ----------
    y, groups
        As for `make_folds`.
    own_groups : ndarray of str, shape (n_samples,), optional
        The groups that the user gave; `groups` has near-duplicates in one group as well.

    Returns
    -------
    rows : ndarray of int, shape (n_scorable,)
        All rows where there is one class only: `make_folds` has the words for that.
    notes : list of str
        Which classes are left out, and why.

    Raises
    ------
    FoldsError
        Fewer than two classes are left.

    Examples
    --------
    >>> y, groups = np.array(["a", "a", "b", "b", "c"]), np.array([""] * 5)
    >>> scorable(y, groups).rows.tolist()
    [0, 1, 2, 3]
    """
    units = _units(y, groups)
    left_out = sorted(label for label, count in units.items() if count < 2)
    if not left_out or len(units) < 2:
        return Scorable(np.arange(len(y)), [])
    reasons: dict[str, list[str]] = {}
    for label in left_out:
        reasons.setdefault(_reason(y == label, own_groups), []).append(label)
    if len(units) - len(left_out) < 2:
        texts = [_unscorable(reason, labels) for reason, labels in reasons.items()]
        raise FoldsError(f"fewer than two classes can be scored: {'; '.join(texts)}")
    notes = [
        f"{_unscorable(reason, labels)}; no score counts {'it' if len(labels) == 1 else 'them'} until then"
        for reason, labels in reasons.items()
    ]
    return Scorable(np.flatnonzero(~np.isin(y, left_out)), notes)


def _reason(of_class: np.ndarray, own_groups: np.ndarray | None) -> str:
    """Return which entry of `UNSCORABLE` says why the images of a class lie in one fold."""
    if np.count_nonzero(of_class) == 1:
        return "single"
    if own_groups is None:
        return "together"
    first = own_groups[of_class][0]
    return "group" if first and (own_groups[of_class] == first).all() else "copies"


def _unscorable(reason: str, labels: Sequence[str]) -> str:
    """Say why some classes cannot be both learned from and tested on, and what to add."""
    one, several, more = UNSCORABLE[reason]
    names = ", ".join(shortened(repr(label)) for label in labels[:MAX_NAMED])
    names += f" and {len(labels) - MAX_NAMED} more" * (len(labels) > MAX_NAMED)
    what = f"the class {names} {one}" if len(labels) == 1 else f"the classes {names} {several}"
    return f"{what}, which cannot be both learned from and tested on; add {more}"


def _units(y: np.ndarray, groups: np.ndarray | None) -> Counter[str]:
    """Return how many groups each class has, an image without a group being one."""
    if groups is None:
        return Counter(y.tolist())
    return Counter(label for label, _ in set(zip(y.tolist(), _named(groups).tolist(), strict=True)))


def _named(groups: np.ndarray) -> np.ndarray:
    return np.array([group or f"\0{i}" for i, group in enumerate(groups)])


def _without_groups(y: np.ndarray, cv: int, seed: int, rarest: str, fewest: int) -> tuple[Folds, list[str]]:
    """Return folds of images that each stand for themselves, given the rarest class and its number of images."""
    if fewest < cv <= max(Counter(y.tolist()).values()):
        notes = [f"the class {rarest!r} has {fewest} images: it is held out in {fewest} of {cv} folds"]
        return _dealt(y, cv, seed), notes
    notes = [f"{fewest} folds instead of {cv}: the class {rarest!r} has {fewest} images"] * (fewest < cv)
    splitter = StratifiedKFold(n_splits=min(cv, fewest), shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(y)), y)), notes


def _dealt(y: np.ndarray, cv: int, seed: int) -> Folds:
    """Deal the images of one class after the other to the folds in turn, so that no fold holds out a whole class."""
    mixed = np.random.default_rng(seed).permutation(len(y))
    fold = np.empty(len(y), int)
    fold[mixed[np.argsort(y[mixed], kind="stable")]] = np.arange(len(y)) % cv
    return _of_numbers(fold)


def _of_numbers(fold: np.ndarray) -> Folds:
    """Return the folds, given which one holds out each row."""
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in np.unique(fold).tolist()]


def _never_whole_classes(y: np.ndarray, groups: np.ndarray, folds: Folds, seed: int) -> Folds:
    """Move groups to other folds until no fold holds out all images of a class; each class has two groups.

    A step moves a group so that the fewest classes are left in one fold. Where no such step is a gain, a few are taken
    in vain (Selman, Kautz, Cohen 1994), and then a fold is added. That always frees a class, and takes none from the
    others.
    """
    rng, patience = np.random.default_rng(seed), STEPS_IN_VAIN
    of_class, of_group = (np.unique(names, return_inverse=True)[1] for names in (y, groups))
    fold = np.empty(of_group.max() + 1, int)
    for number, (_, test) in enumerate(folds):
        fold[of_group[test]] = number
    pairs = np.unique(np.column_stack([of_class, of_group]), axis=0)
    while len(whole := _held_out_whole(pairs, fold)):
        mine = pairs[pairs[:, 0] == rng.choice(whole), 1].tolist()
        moves = product(mine, range(fold.max() + 1))
        left, _, group, number = min((_left_whole(pairs, fold, *move), rng.random(), *move) for move in moves)
        if left >= len(whole):
            patience -= 1
            if patience < 0:
                number = fold.max() + 1
        fold[group] = number
    return _of_numbers(fold[of_group])


def _held_out_whole(pairs: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the classes that one fold holds out, given which class has which group, and the fold of each group."""
    in_fold = np.zeros((pairs[-1, 0] + 1, fold.max() + 1), bool)
    in_fold[pairs[:, 0], fold[pairs[:, 1]]] = True
    return np.flatnonzero(in_fold.sum(axis=1) == 1)


def _left_whole(pairs: np.ndarray, fold: np.ndarray, group: int, number: int) -> int:
    """Return how many classes one fold would hold out if a group moved to another fold."""
    moved = fold.copy()
    moved[group] = number
    return len(_held_out_whole(pairs, moved))
