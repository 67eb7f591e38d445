"""Keeps near-duplicates from flattering a score: the same image to learn from and to be tested on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.neighbours.duplicates import find_duplicates, join_groups
from cnncodes.probes.search import Search, search_C

__all__ = ["Guard", "guard_splits"]


@dataclass
class Guard:
    """Which training images belong together, and which held-out images are among the training images already.

    Attributes
    ----------
    groups : ndarray of str, shape (n_train,)
        The user's groups, joined with the near-duplicates.
    own_groups : ndarray of str, shape (n_train,)
        The user's alone.
    duplicated : ndarray of bool, shape (n_train,)
        Training images with a near-duplicate among them.
    leaked : ndarray of bool, shape (n_test,)
        Held-out images with a near-duplicate among the training images.
    notes : list of str
    by_codes : bool
        Whether near-duplicates were looked for, or exact ones only.
    """

    groups: np.ndarray
    own_groups: np.ndarray
    duplicated: np.ndarray
    leaked: np.ndarray
    notes: list[str]
    by_codes: bool = True

    def take(self, rows: np.ndarray) -> Guard:
        """Return the guard of some of the training images."""
        return replace(
            self, groups=self.groups[rows], own_groups=self.own_groups[rows], duplicated=self.duplicated[rows]
        )

    def measure(self, X: np.ndarray, y: np.ndarray, search: Search, **options: Any) -> tuple[dict[str, Any], list[str]]:
        """Return how many duplicates there are, and the accuracy that the guard prevents; and notes.

        That is cross-validated at the C that was chosen, and only the answers for duplicated images are taken from it:
        those for the others differ by the chance of the folds alone.

        Parameters
        ----------
        X : ndarray, shape (n_train, n_features)
            Or with views in the middle.
        y : ndarray, shape (n_train,)
        search : Search
            With the guard.
        **options
            Of `search_C`, but for the groups and the values of C.
        """
        notes: list[str] = []
        n = int(self.duplicated.sum())
        found: dict[str, Any] = {"n_duplicates": n, "n_test_duplicates": int(self.leaked.sum())}
        found["duplicates_by_codes"] = self.by_codes
        if self.duplicated.any():
            plain = search_C(X, y, Cs=[search.C], groups=self.own_groups, **options)
            notes += [f"without the guard: {note}" for note in plain.notes if note not in search.notes]
            predicted = np.where(self.duplicated, plain.predictions, search.predictions)
            found["unguarded_accuracy"] = float(np.mean(predicted == y))
            without, guarded = (
                f"{100 * share:.1f} %" for share in (found["unguarded_accuracy"], np.mean(search.predictions == y))
            )
            look = f"look the same, {guarded}" if without == guarded else f"look like {without}, and not {guarded}"
            notes.append(
                f"{n} training images are near-duplicates of others, and stay on the same side of each fold: "
                f"without that, the accuracy would {look}"
            )
        return found, notes


def guard_splits(file: CodesFile, train: np.ndarray, test: np.ndarray, *, near: bool = True) -> Guard:
    """Find near-duplicates by their codes, within the training images and between them and the held-out ones.

    Parameters
    ----------
    file : CodesFile
    train, test : ndarray of int
        Rows of `file`.
    near : bool
        False looks for exact duplicates only, which takes no memory.
    """
    found = find_duplicates(file, np.concatenate([train, test]), near=near)
    inside = found.among(len(train))
    duplicated = np.zeros(len(train), bool)
    duplicated[inside.pairs.ravel()] = True
    across = found.pairs[(found.pairs[:, 0] < len(train)) & (found.pairs[:, 1] >= len(train)), 1]
    leaked = np.zeros(len(test), bool)
    leaked[across - len(train)] = True
    notes = list(found.notes)
    if leaked.any():
        held_out = "1 held-out image is" if leaked.sum() == 1 else f"{leaked.sum()} held-out images are"
        notes.append(f"{held_out} left out of the score, with a near-duplicate among the training images")
    own = file.groups[train]
    return Guard(join_groups(own, inside), own, duplicated, leaked, notes, found.by_codes)
