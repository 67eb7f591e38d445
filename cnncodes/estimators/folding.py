"""How images are dealt into folds, as a user of scikit-learn says it: a number, a splitter, or the splits."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils import check_random_state

from cnncodes.errors import FoldsError, SettingError, first_line
from cnncodes.images.labels import Labels
from cnncodes.probes.folds import Folds

__all__ = ["Splitter", "folding_of", "group_names", "seed_of"]

Splitter: TypeAlias = "int | BaseCrossValidator | Iterable[tuple[ArrayLike, ArrayLike]] | None"

N_FOLDS = 5  # for None, as in scikit-learn
MAX_SEED = 2**31 - 1  # of those that are drawn from a random state


def folding_of(
    cv: Splitter,
    random_state: int | np.random.RandomState | None,
    labels: np.ndarray,
    groups: ArrayLike | None = None,
    rows: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return what `cnncodes.probes.search.fit_probe` takes to deal images into folds.

    Parameters
    ----------
    cv : int, splitter, iterable or None
        Where it is a number, folds are stratified, and shuffled with a seed.
    random_state : int, RandomState instance or None
        That seed, or what it is drawn from.
    labels : ndarray, shape (n,)
    groups : array-like, shape (n,), optional
        Groups of images that stay on one side.
    rows : ndarray of int, optional
        Ascending rows of the images that are used: the folds are of these alone, and number them from 0. By default all
        images are used.

    Raises
    ------
    SettingError
        `cv` does not split these images, or does not hold each out once, or holds images out that it learns from.
    FoldsError
        A fold has no image of a class to learn from.
    """
    rows = np.arange(len(labels)) if rows is None else rows
    if cv is not None and not isinstance(cv, Integral):
        return {"folds": _folds(check_cv(cv), labels, groups, rows)}
    names = group_names(groups, len(labels))
    names = names if names is None else names[rows]
    return {"cv": N_FOLDS if cv is None else int(cv), "seed": seed_of(random_state), "groups": names}


def seed_of(random_state: int | np.random.RandomState | None) -> int:
    """Return a seed: the number itself, or one that is drawn."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(MAX_SEED))


def group_names(groups: ArrayLike | None, n: int) -> np.ndarray | None:
    """Return the names of the groups of n images, shape (n,); None where no image has a group."""
    names = None if groups is None else Labels.read(groups, n, "groups").texts()
    return None if names is None else np.array(names)


def _folds(splitter: BaseCrossValidator, labels: np.ndarray, groups: ArrayLike | None, rows: np.ndarray) -> Folds:
    every = np.arange(len(labels))
    try:
        splits = [(every[train], every[test]) for train, test in splitter.split(every, labels, groups)]
    except (IndexError, TypeError, ValueError) as error:
        raise SettingError(f"cv does not split these {len(every)} images: {first_line(error)}") from error
    if not splits:
        raise SettingError("cv has no splits; a generator has them once only, so give a list of them")
    held_out = np.bincount(np.concatenate([every[:0], *(test for _, test in splits)]), minlength=len(every))[rows]
    if (held_out != 1).any():
        row = int(np.argmax(held_out != 1))
        raise SettingError(
            f"cv holds image {rows[row]} (counted from 0) out {held_out[row]} times, and each must be held out once, "
            "as by KFold, StratifiedKFold or GroupKFold: C is chosen by the answers to all images"
        )
    folds = [(_places(train, rows), _places(test, rows)) for train, test in splits]
    labels = labels[rows]
    for train, test in folds:
        if len(np.intersect1d(train, test)):
            raise SettingError("cv has a fold that learns from images that it holds out")
        if missing := set(labels.tolist()) - set(labels[train].tolist()):
            raise FoldsError(
                f"a fold of cv has no image of {min(missing)!r} to learn from; deal by class, as StratifiedKFold does, "
                "or have several groups of each class"
            )
    return [fold for fold in folds if len(fold[1])]


def _places(split: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return where the rows of a split stand among those that are used."""
    return np.searchsorted(rows, split[np.isin(split, rows)])
