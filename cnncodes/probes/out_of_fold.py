"""Decision values of held-out images, for one value of C after the other.

Two ways lead to them. Where the rows are few, all folds are solved side by side, and a solution for one C is the start
for the next, whichever is asked for. Where they are many, folds are solved one after the other, or in parallel, each
along all values of C that are asked for at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
from joblib import Parallel, delayed
from sklearn import config_context

from cnncodes.codes.views import as_rows, repeated, summed
from cnncodes.probes.folds import Folds
from cnncodes.probes.joblib_backend import check_workers, lost_workers_explained, on_cluster, received, sent_once
from cnncodes.probes.probe import LOSSES
from cnncodes.probes.scaling import Scaling, make_scaler
from cnncodes.solvers.coordinates import Fold, SharedCoordinates
from cnncodes.solvers.device import on_cpu
from cnncodes.solvers.path import fit_path
from cnncodes.solvers.side_by_side import Beginning, SideBySide, bytes_side_by_side
from cnncodes.solvers.threads import few_threads, one_thread
from cnncodes.system.memory import memory_left

__all__ = ["FoldByFold", "FoldsSideBySide", "OutOfFold", "ScaledFolds", "side_by_side_pays"]

SMALL_BYTES = 64 << 20  # of the coordinates of all folds: with more, the products take the time, not what is between
LARGE_BYTES = 1 << 30  # up to which they are made
ROUGH_GAP, EXACT_GAP = 1e-5, 1e-7  # of a solution that is compared with others, and of one that is kept
SINGLE_ROUGH_GAP, SINGLE_EXACT_GAP = 1e-3, 1e-4  # the same, where the products are float32
COPIES = 4  # of all codes, while the coordinates of a fold are made
ENOUGH_ANSWERS = 1000  # to tell a good C from a bad one; better ones are told apart by those of all folds


class OutOfFold(Protocol):
    """Probes on the training rows of each fold, applied to the held-out rows.

    Attributes
    ----------
    at_once : int
        How many values of C are best asked for together.
    rough : bool
        Whether decision values that are only compared are less exact than those that are kept.
    stride : int
        In the grid, between the values that are tried first.
    first_folds : int
        As many folds are enough for a first look at a value of C.
    workers : context manager
        Keeps processes, and the codes that were sent to them, from one call of `decide` to the next.
    """

    workers: AbstractContextManager[Any]
    at_once: int
    rough: bool
    stride: int
    first_folds: int

    def decide(self, Cs: Sequence[float], *, exact: bool, n_folds: int) -> tuple[np.ndarray, np.ndarray]:
        """Return decision values of all images, (n_Cs, n, k), and which fits converged, (n_folds, n_Cs).

        Parameters
        ----------
        Cs : sequence of float
            Ascending.
        exact : bool
            Whether the values are kept, or only compared with each other.
        n_folds : int
            Folds, the first ones, whose held-out images are decided on; the values of the others mean nothing.
        """


def side_by_side_pays(X: np.ndarray, y: np.ndarray, folds: Folds, memory_limit: int | None = None) -> bool:
    """Whether `FoldsSideBySide` is the faster way, and has the memory that it takes.

    Parameters
    ----------
    X, y, folds, memory_limit
        As for `cnncodes.probes.search.search_C`.
    """
    classes = np.unique(y)
    if any(len(np.unique(y[train])) < len(classes) for train, _ in folds):
        return False
    needed = _bytes_of_coordinates(X, folds, len(classes))
    if needed > SMALL_BYTES:
        needed = _bytes_of_coordinates(X, folds, len(classes), itemsize=4)
        needed += COPIES * X.nbytes  # a fold's rows are taken out, scaled and centred
    return needed <= SMALL_BYTES or (on_cpu() and needed <= min(LARGE_BYTES, memory_left(memory_limit) // 2))


def _bytes_of_coordinates(X: np.ndarray, folds: Folds, n_classes: int, itemsize: int = 8) -> int:
    rows = as_rows(X)
    n = max(len(train) for train, _ in folds) * (len(rows) // len(X))
    return bytes_side_by_side(len(folds), n, rows.shape[1], n_classes, itemsize)


class ScaledFolds:
    """Few rows of folds, scaled, and their coordinates: made once for all probes of these codes, folds and scaling."""

    def __init__(self) -> None:
        self.folds: list[Fold] | None = None
        self.coordinates = SharedCoordinates()


class FoldsSideBySide:
    """Folds whose coordinates stay in memory: few rows all at once, more in float32 and each fold by itself.

    The parameters are those of `cnncodes.probes.search.search_C`; no C is asked for that is larger than `largest_C`.
    """

    at_once, rough = 1, True

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray,
        folds: Folds,
        *,
        clf: str,
        scale: Scaling,
        class_weight: Any,
        max_iter: int,
        n_jobs: int | None = None,
        largest_C: float = np.inf,
        shared: ScaledFolds | None = None,
    ) -> None:
        self.X, self.y, self.folds, self.n_jobs = X, y, folds, n_jobs
        self.clf, self.scale, self.class_weight, self.max_iter = clf, scale, class_weight, max_iter
        self.largest_C, self.shared = largest_C, shared or ScaledFolds()
        self.workers: AbstractContextManager[Any] = nullcontext()  # threads start in no time
        self.k = 1 if (n_classes := len(np.unique(y))) == 2 else n_classes
        self.small = _bytes_of_coordinates(X, folds, n_classes) <= SMALL_BYTES
        self.stride = 2 if self.small and clf == "svm" else 4  # its curve has bumps where images are few
        every = range(len(folds))
        self.parts = [list(every)] if self.small else [[i] for i in every]
        self.first_folds = 1 if not self.small and len(folds[0][1]) >= ENOUGH_ANSWERS else len(folds)
        self._solvers: list[SideBySide | None] = [None] * len(self.parts)

    def decide(self, Cs: Sequence[float], *, exact: bool, n_folds: int) -> tuple[np.ndarray, np.ndarray]:
        """Return decision values and what converged; see `OutOfFold`."""
        rough, kept = (ROUGH_GAP, EXACT_GAP) if self.small else (SINGLE_ROUGH_GAP, SINGLE_EXACT_GAP)
        gap = kept if exact else rough
        decision, converged = np.zeros((len(Cs), len(self.X), self.k)), np.ones((len(self.folds), len(Cs)), bool)
        parts = range(1 if self.small else n_folds)
        jobs = None if self.small else self.n_jobs
        with few_threads(self.X):
            first = self._solvers[0] = self._solvers[0] or self._make(0, None)
        beginning = first.beginning()
        with one_thread:
            results = Parallel(n_jobs=jobs, require="sharedmem")(
                delayed(self._solve)(i, Cs, gap, beginning) for i in parts
            )
        for i, (values, done) in zip(parts, results, strict=True):
            converged[self.parts[i]] = done
            for fold, of_fold in zip(self.parts[i], values, strict=True):
                decision[:, self.folds[fold][1]] = of_fold
        return decision, converged

    def _solve(
        self, part: int, Cs: Sequence[float], gap: float, beginning: Beginning
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the decision values of the folds of a part, each (n_Cs, m, k), and which converged."""
        solver = self._solvers[part] = self._solvers[part] or self._make(part, beginning)
        decisions, converged = [], []
        for C in Cs:
            converged.append(solver.solve(C, gap, self.max_iter))
            decisions.append([summed(values, self.X) for values in solver.decisions()])
        return [np.stack(of_fold) for of_fold in zip(*decisions, strict=True)], np.stack(converged, axis=1)

    def _make(self, part: int, beginning: Beginning | None) -> SideBySide:
        shared = self.shared if self.small else ScaledFolds()
        if shared.folds is None:
            shared.folds = self._scaled_folds(part)
        return SideBySide(
            shared.folds,
            LOSSES[self.clf],
            self.class_weight,
            np.float64 if self.small else np.float32,
            self.largest_C,
            beginning,
            shared.coordinates,
        )

    def _scaled_folds(self, part: int) -> list[Fold]:
        with config_context(assume_finite=True, skip_parameter_validation=True):
            return [
                Fold(inside, repeated(self.y[train], self.X), outside)
                for train, test in (self.folds[fold] for fold in self.parts[part])
                for inside, outside in [_scaled(self.X, train, test, self.scale)]
            ]


class FoldByFold:
    """One fold after the other, or some in parallel, for many rows."""

    at_once, rough, stride = 6, False, 4

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray,
        folds: Folds,
        *,
        clf: str,
        scale: Scaling,
        class_weight: Any,
        max_iter: int,
        tol: float,
        n_jobs: int | None,
        sample_weight: np.ndarray | None = None,
    ) -> None:
        check_workers()
        self.sample_weight = sample_weight
        self.X, self.y, self.folds, self.first_folds = sent_once(X), y, folds, len(folds)
        self.parallel = Parallel(n_jobs=n_jobs)
        # Processes of this machine outlast a call anyway, and end without a word when they are interrupted
        self.workers = self.parallel if on_cluster() else nullcontext()
        self.clf, self.scale, self.class_weight, self.max_iter, self.tol = clf, scale, class_weight, max_iter, tol

    def decide(self, Cs: Sequence[float], *, exact: bool, n_folds: int) -> tuple[np.ndarray, np.ndarray]:
        """Return decision values and what converged; see `OutOfFold`. They are always as exact as `tol`."""
        options = {"loss": LOSSES[self.clf], "class_weight": self.class_weight, "max_iter": self.max_iter}
        tasks = (
            delayed(_fold_path)(self.X, self.y, train, test, Cs, self.scale, weight, tol=self.tol, **options)
            for train, test in self.folds
            for weight in [None if self.sample_weight is None else self.sample_weight[train]]
        )
        with lost_workers_explained():
            results = self.parallel(tasks)
        decision = np.empty((len(Cs), len(self.y), results[0].decision.shape[2]))
        for (_, test), path in zip(self.folds, results, strict=True):
            decision[:, test] = path.decision
        return decision, np.array([path.converged for path in results])


def _scaled(X: np.ndarray, train: np.ndarray, test: np.ndarray, scale: Scaling) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a fold to fit to, and those held out, scaled as the former want it."""
    scaler = make_scaler(scale)
    return scaler.fit_transform(as_rows(X[train])), scaler.transform(as_rows(X[test]))


class _FoldPath(NamedTuple):
    """What one fold gives."""

    decision: np.ndarray  # (n_Cs, n_test, k), of the held-out rows
    converged: np.ndarray  # (n_Cs,)


def _fold_path(
    X: Any,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    Cs: Sequence[float],
    scale: Scaling,
    weight: np.ndarray | None,
    **options: Any,
) -> _FoldPath:
    """Fit a probe for each C to the images `train` with their weights, and apply it to the images `test`."""
    X = received(X)
    inside, outside = _scaled(X, train, test, scale)
    weight = None if weight is None else repeated(weight, X)
    path = fit_path(inside, repeated(y[train], X), Cs, warn=False, sample_weight=weight, **options)
    return _FoldPath(summed(path.decision_function(outside), X), path.converged)
