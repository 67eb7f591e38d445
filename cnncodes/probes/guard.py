"""Keeps near-duplicates from flattering a score: the same image to learn from and to be tested on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncodes.display import would_look
from cnncodes.neighbours.duplicates import Duplicates, join_groups
from cnncodes.probes.search import Search, search_C

__all__ = ["Guard", "make_guard"]

UNSEEN = 1e-3  # part of the images: answers to fewer are too few to be seen in a printed accuracy


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
    search_notes : list of str
        Notes of the search for near-duplicates.
    by_codes : bool, default=True
        Whether near-duplicates were looked for, or exact ones only.
    """

    groups: np.ndarray
    own_groups: np.ndarray
    duplicated: np.ndarray
    leaked: np.ndarray
    search_notes: list[str]
    by_codes: bool = True

    @property
    def notes(self) -> list[str]:
        """Notes for whoever scores held-out images: those of the search, and how many images are left out."""
        if not self.leaked.any():
            return list(self.search_notes)
        held_out = "1 held-out image is" if self.leaked.sum() == 1 else f"{self.leaked.sum()} held-out images are"
        return [
            *self.search_notes,
            f"{held_out} left out of the score, with a near-duplicate among the training images",
        ]

    def take(self, rows: np.ndarray) -> Guard:
        """Return the guard of some of the training images."""
        return replace(
            self, groups=self.groups[rows], own_groups=self.own_groups[rows], duplicated=self.duplicated[rows]
        )

    def measure(self, X: np.ndarray, y: np.ndarray, search: Search, **options: Any) -> tuple[dict[str, Any], list[str]]:
        """Return how many duplicates there are, and the accuracy that the guard prevents; and notes.

        That is cross-validated at the C that was chosen, and only the answers for duplicated images are taken from it:
        those for the others differ by the chance of the folds alone. Where fewer than one image in a thousand is
        duplicated, nothing is fitted: the difference is less than 0.1 points.

        Parameters
        ----------
        X : ndarray, shape (n_train, n_features)
            Or with views in the middle.
        y : ndarray, shape (n_train,)
        search : Search
            With the guard.
        **options
            Options of `search_C` other than the groups and the values of C.
        """
        notes: list[str] = []
        n = int(self.duplicated.sum())
        figures: dict[str, Any] = {"n_duplicates": n, "n_test_duplicates": int(self.leaked.sum())}
        figures["duplicates_by_codes"] = self.by_codes
        kept_together = (
            f"{n} training images are near-duplicates of others, and stay on the same side of each fold: "
            "without that, the accuracy would "
        )
        if 0 < n < UNSEEN * len(y):
            notes.append(f"{kept_together}differ by less than 0.1 points")
        elif n:
            plain = search_C(X, y, Cs=[search.C], groups=self.own_groups, exact=False, **options)
            notes += [f"without the guard: {note}" for note in plain.notes if note not in search.notes]
            predicted = np.where(self.duplicated, plain.predictions, search.predictions)
            figures["unguarded_accuracy"] = float(np.mean(predicted == y))
            look = would_look(figures["unguarded_accuracy"], float(np.mean(search.predictions == y)))
            notes.append(f"{kept_together}{look}")
        return figures, notes


def make_guard(duplicates: Duplicates, n_train: int, n_test: int, own_groups: np.ndarray) -> Guard:
    """Sort near-duplicates into those within the training images, and held-out images that have one among them.

    Parameters
    ----------
    duplicates : Duplicates
        Positions below `n_train` are training images, the others held-out ones.
    n_train, n_test : int
    own_groups : ndarray of str, shape (n_train,)
        The user's groups of the training images.
    """
    inside = duplicates.among(n_train)
    duplicated = np.zeros(n_train, bool)
    duplicated[inside.pairs.ravel()] = True
    across = duplicates.pairs[(duplicates.pairs[:, 0] < n_train) & (duplicates.pairs[:, 1] >= n_train), 1]
    leaked = np.zeros(n_test, bool)
    leaked[across - n_train] = True
    groups = join_groups(own_groups, inside)
    return Guard(groups, own_groups, duplicated, leaked, list(duplicates.notes), duplicates.by_codes)
