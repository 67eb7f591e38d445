"""The protocol of every score: which images train, which are held out, which belong together, on which folds.

A few lines more than 300, for one duty: the class only keeps what other modules of the room compute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.joined import JoinedCodes
from cnncodes.neighbours.duplicates import Duplicates, find_duplicates, nearest_by_codes
from cnncodes.probes.folds import Folds, Scorable, make_folds, scorable
from cnncodes.probes.guard import Guard, make_guard
from cnncodes.probes.out_of_fold import ScaledFolds
from cnncodes.probes.scaling import Scaling, scaling_of
from cnncodes.probes.scores import neighbour_accuracy
from cnncodes.probes.search import C_GRID, Search, search_C
from cnncodes.probes.split import SplitRows, split_rows
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import DEFAULT_SCALING, as_names

__all__ = ["Codes", "TrainingData"]

SEARCH_BYTES = 256 << 20  # of out-of-fold decisions that are kept


class TrainingData:
    """The labelled images of a codes file as every verb sees them: split, guarded, dealt into folds, cross-validated.

    Everything is computed when it is first asked for, and kept: verbs that are handed the same object look for
    near-duplicates once, deal each seed into folds once, and cross-validate each probe once. The codes file must stay
    open meanwhile; it compares each row with its checksum once.

    Parameters
    ----------
    file : CodesFile
        Open for reading.

    Examples
    --------
    >>> with TrainingData.open("codes.h5") as data:  # doctest: +SKIP
    ...     comparison = compare(data)
    ...     model = fit(data, layers=comparison.recommended.layers)  # cross-validates nothing again
    """

    def __init__(self, file: CodesFile) -> None:
        self.file = file
        self._codes: tuple[Any, np.ndarray] | None = None
        self._nearest: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        self._duplicates: dict[Any, Duplicates] = {}
        self._guards: dict[bool, Guard] = {}
        self._folds: dict[Any, tuple[Folds, list[str]]] = {}
        self._searches: dict[Any, Search] = {}
        self._scaled: tuple[Any, dict[Any, ScaledFolds]] = None, {}
        self._neighbours: dict[Any, float] = {}

    @classmethod
    @contextmanager
    def open(cls, codes: Codes | Sequence[str | os.PathLike[str]]) -> Iterator[TrainingData]:
        """Open a codes file; what is open already is handed through, and stays open.

        Parameters
        ----------
        codes : path, CodesFile or TrainingData, or sequence of paths
            Several files, of different images that were extracted alike, are read as one.

        Raises
        ------
        CodesFileError
            There is no such file, or it is no codes file; or several do not belong together.
        MismatchError
            Several files were made with different settings.
        """
        if isinstance(codes, TrainingData):
            yield codes
        elif isinstance(codes, CodesFile):
            yield cls(codes)
        else:
            paths = [codes] if isinstance(codes, (str, os.PathLike)) else list(codes)
            with CodesFile.open(paths[0]) if len(paths) == 1 else JoinedCodes(paths) as file:
                yield cls(file)

    @cached_property
    def split(self) -> SplitRows:
        """Rows to train on, held-out rows, held-out rows whose group has training images, and notes.

        Raises
        ------
        ProbeError
            The extraction is not finished, or no image has a label.
        """
        return split_rows(self.file)

    @property
    def train(self) -> np.ndarray:
        """Rows to train on, ascending."""
        return self.split.train

    @property
    def held_out(self) -> np.ndarray:
        """Held-out rows, ascending, without those whose group has training images."""
        return self.split.held_out

    @property
    def has_held_out(self) -> bool:
        """Whether the split holds images out, even if a score counts none of them."""
        return len(self.held_out) + len(self.split.grouped) > 0

    @property
    def labels(self) -> np.ndarray:
        """Labels of the training images, shape (n_train,), str."""
        return self.file.labels[self.train]

    def groups(self, *, guard: bool = True) -> np.ndarray:
        """Return the groups of training images that stay on one side of each fold.

        Parameters
        ----------
        guard : bool, default=True
            Whether near-duplicates are of one group, or the user's groups count alone.
        """
        return self.guard().groups if guard else self.file.groups[self.train]

    def guard(self, *, near: bool = True) -> Guard:
        """Return which images are near-duplicates, among the training images and the held-out ones.

        Parameters
        ----------
        near : bool, default=True
            False looks for exact copies only, which takes no memory.
        """
        if near not in self._guards:
            order = np.concatenate([self.train, self.held_out])
            place = np.argsort(order)  # of each row, ascending, in `order`
            duplicates = self.duplicates(order[place], near=near)
            duplicates = replace(duplicates, pairs=np.sort(place[duplicates.pairs], axis=1))
            n_train, n_test = len(self.train), len(self.held_out)
            self._guards[near] = make_guard(duplicates, n_train, n_test, self.groups(guard=False))
        return self._guards[near]

    def duplicates(
        self,
        rows: np.ndarray,
        images: Any = None,
        *,
        near: bool = True,
        progress: Progress | None = None,
    ) -> Duplicates:
        """Return the near-duplicates among some rows, as `find_duplicates` does.

        Parameters
        ----------
        rows : ndarray of int, shape (n,)
            Ascending.
        images : path, sequence, ndarray or ImageSet, optional
            The images that the codes file was made from.
        near : bool, default=True
            False looks for exact copies only.
        progress : callable, optional
            Called with (done, total, failed) while `images` are read.
        """
        if images is not None:
            return find_duplicates(self.file, rows, images, near=near, progress=progress, nearest=self._nearest_of)
        key = rows.tobytes(), near
        if key not in self._duplicates:
            self._duplicates[key] = find_duplicates(self.file, rows, near=near, nearest=self._nearest_of)
        return self._duplicates[key]

    def _nearest_of(self, file: CodesFile, layer: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = rows.tobytes()
        if key not in self._nearest:
            self._nearest[key] = nearest_by_codes(file, layer, rows)
        return self._nearest[key]

    def scored_rows(self, *, guard: bool = True) -> np.ndarray:
        """Return the rows that a fitted model is asked about: the held-out ones, or without a split all labelled ones.

        Parameters
        ----------
        guard : bool, default=True
            Leave out held-out images that have a near-duplicate among the training images.
        """
        if not self.has_held_out:
            return self.train
        return self.held_out[~self.guard().leaked] if guard and len(self.held_out) else self.held_out

    def codes(self, layers: str | Sequence[str], rows: np.ndarray | None = None) -> np.ndarray:
        """Return codes as `CodesFile.codes` does; those that were returned last are kept.

        Parameters
        ----------
        layers : str or sequence of str
            Several are concatenated.
        rows : ndarray of int, optional
            By default the training images.
        """
        names, rows = as_names(layers), self.train if rows is None else rows
        key = names, rows.tobytes()
        if self._codes is None or self._codes[0] != key:
            self._codes = None  # first, so that memory never holds two
            self._codes = key, self.file.codes(names, rows)
        return self._codes[1]

    def scaling(self, layers: str | Sequence[str], scale: str = DEFAULT_SCALING) -> Scaling:
        """Return a scaling for the codes of some layers side by side, as the functions of the probes take it.

        Parameters
        ----------
        layers : str or sequence of str
        scale : {"shrunk", "standard", "l2", "none"}, default="shrunk"
        """
        return scaling_of(scale, [self.file.n_features(name) for name in as_names(layers)])

    def scorable(self, groups: np.ndarray, rows: np.ndarray | None = None) -> Scorable:
        """Return which of the rows are of classes that can be cross-validated, as positions, and notes on the others.

        Parameters
        ----------
        groups : ndarray of str
            Groups of the rows.
        rows : ndarray of int, optional
            By default the training images.
        """
        rows = self.train if rows is None else rows
        return scorable(self.file.labels[rows], groups, self.file.groups[rows])

    def folds(
        self, groups: np.ndarray, rows: np.ndarray | None = None, *, cv: int = 5, seed: int = 0
    ) -> tuple[Folds, list[str]]:
        """Return the folds of `make_folds`, and its notes.

        Parameters
        ----------
        groups : ndarray of str
            Groups of the rows.
        rows : ndarray of int, optional
            By default the training images.
        cv, seed
            As for `make_folds`.
        """
        rows = self.train if rows is None else rows
        key = _digest(rows, groups), cv, seed
        if key not in self._folds:
            self._folds[key] = make_folds(self.file.labels[rows], groups, cv=cv, seed=seed)
        return self._folds[key]

    def search(
        self,
        layers: str | Sequence[str],
        *,
        groups: np.ndarray,
        rows: np.ndarray | None = None,
        clf: str = "svm",
        Cs: Sequence[float] | np.ndarray = C_GRID,
        scale: str = DEFAULT_SCALING,
        class_weight: Any = None,
        cv: int = 5,
        seed: int = 0,
        one_se: bool = False,
        any_grid: bool = False,
        exact: bool = True,
        n_jobs: int | str | None = None,
        memory_limit: int | None = None,
        progress: Progress | None = None,
    ) -> Search:
        """Cross-validate a probe as `search_C` does, unless that was done before.

        Parameters
        ----------
        layers : str or sequence of str
        groups : ndarray of str
            Groups of the rows.
        rows : ndarray of int, optional
            By default the training images.
        clf, Cs, scale, class_weight, cv, seed, one_se, exact, n_jobs, memory_limit, progress
            As for `search_C`.
        any_grid : bool, default=False
            A search over other values of C will do as well, if it chose one of `Cs`.

        Returns
        -------
        Search
        """
        rows = self.train if rows is None else rows
        digest = _digest(rows, groups)
        key = as_names(layers), clf, scale, repr(class_weight), cv, seed, exact, digest
        grid = (tuple(np.sort(np.asarray(Cs, float)).tolist()), one_se)
        kept = self._searches.get((key, grid))
        if kept is None and any_grid:
            same = (search for (other, _), search in self._searches.items() if other == key)
            kept = next((search for search in same if search.C in grid[0]), None)
        if kept is None:
            folds, notes = self.folds(groups, rows, cv=cv, seed=seed)
            options: dict[str, Any] = {"clf": clf, "Cs": Cs, "scale": self.scaling(layers, scale)}
            options["class_weight"] = class_weight
            options |= {"one_se": one_se, "exact": exact, "n_jobs": n_jobs, "memory_limit": memory_limit}
            options |= {"progress": progress, "shared": self._scaled_folds(layers, (scale, cv, seed, digest))}
            kept = search_C(self.codes(layers, rows), self.file.labels[rows], folds=folds, **options)
            kept.notes = notes + kept.notes
            if sum(search.decision.nbytes for search in self._searches.values()) <= SEARCH_BYTES:
                self._searches[key, grid] = kept
        return replace(kept, notes=list(kept.notes))

    def _scaled_folds(self, layers: str | Sequence[str], key: Any) -> ScaledFolds:
        """Return what searches on the same codes, folds and scaling share; that of the layers before is dropped."""
        if self._scaled[0] != as_names(layers):
            self._scaled = as_names(layers), {}
        return self._scaled[1].setdefault(key, ScaledFolds())

    def neighbour_accuracy(
        self,
        layers: str | Sequence[str],
        *,
        groups: np.ndarray,
        rows: np.ndarray | None = None,
        scale: str = DEFAULT_SCALING,
        cv: int = 5,
        seed: int = 0,
    ) -> float:
        """Return the accuracy of the nearest training image on the folds of `search`.

        Parameters
        ----------
        layers : str or sequence of str
        groups, rows, scale, cv, seed
            As for `search`.
        """
        rows = self.train if rows is None else rows
        key = as_names(layers), scale, cv, seed, _digest(rows, groups)
        if key not in self._neighbours:
            folds = self.folds(groups, rows, cv=cv, seed=seed)[0]
            self._neighbours[key] = neighbour_accuracy(
                self.codes(layers, rows), self.file.labels[rows], folds, scale=self.scaling(layers, scale)
            )
        return self._neighbours[key]


Codes = str | os.PathLike[str] | CodesFile | TrainingData


def _digest(rows: np.ndarray, groups: np.ndarray) -> bytes:
    return sha256(rows.tobytes() + "\0".join(groups.tolist()).encode("utf-8", "surrogatepass")).digest()
