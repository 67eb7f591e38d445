"""The choice of C by cross-validation, and the fit with the C that was chosen."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from joblib import cpu_count, effective_n_jobs
from sklearn.pipeline import Pipeline

from cnncodes.codes.views import as_rows, repeated
from cnncodes.errors import ProbeError, SettingError, parameter
from cnncodes.probes.calibration import fit_temperature
from cnncodes.probes.choice import edge_notes
from cnncodes.probes.coarse_to_fine import Trials
from cnncodes.probes.decision_values import winner
from cnncodes.probes.folds import Folds, make_folds
from cnncodes.probes.joblib_backend import lost_workers_explained, on_cluster
from cnncodes.probes.out_of_fold import FoldByFold, FoldsSideBySide, OutOfFold, ScaledFolds, side_by_side_pays
from cnncodes.probes.probe import LOSSES, MAX_ITER, make_probe, set_fitted, usual_C
from cnncodes.probes.scaling import Scaling
from cnncodes.solvers.path import fit_path
from cnncodes.solvers.threads import SMALL_FIT, few_threads
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import AUTO, DEFAULT_SCALING

__all__ = [
    "CONVERGE",
    "C_GRID",
    "Search",
    "fit_chosen",
    "fit_probe",
    "grid_of",
    "jobs_that_pay",
    "not_finite",
    "search_C",
    "search_tol",
]

C_GRID = np.logspace(-6, 5, 45)  # Kornblith, Shlens, Le 2019: the best C of one network spans five orders of magnitude
CONVERGE = f"take the scaling {DEFAULT_SCALING!r}, or a smaller C"
PARALLEL = 45_000_000  # entries of the codes, times values of C, from which more processes make up for their start
# Tolerance of the solvers in a search, and where there is much work: benchmarks/README.md has what the latter saves.
SEARCH_TOL = {"svm": (1e-4, 1e-4), "logreg": (1e-4, 1e-2)}


@dataclass
class Search:
    """Cross-validation of probes over a grid of C.

    Attributes
    ----------
    Cs : ndarray, shape (n_Cs,)
        The values of the grid that were tried.
    accuracy : ndarray, shape (n_folds, n_Cs)
        Accuracy on the held-out fold.
    C : float
        The value that was chosen: unless asked otherwise, of those whose out-of-fold accuracy is within a standard
        error of the best, that whose calibrated out-of-fold probabilities have the smallest Brier score, and of those
        that are alike in this, the one nearest to `usual_C`.
    decision : ndarray, shape (n_samples, n_classes) or (n_samples, 1) for two classes
        Out-of-fold decision values for that C.
    temperature : float
        What decision values are divided by before the softmax gives probabilities: fitted to these.
    classes : ndarray, shape (n_classes,)
    folds : list of (train, test) index arrays
    notes : list of str
    """

    Cs: np.ndarray
    accuracy: np.ndarray
    C: float
    decision: np.ndarray
    temperature: float
    classes: np.ndarray
    folds: Folds
    notes: list[str] = field(default_factory=list)

    @property
    def predictions(self) -> np.ndarray:
        """Out-of-fold predictions for the chosen C, shape (n_samples,)."""
        return self.classes[winner(self.decision)]


def search_C(
    X: np.ndarray,
    y: np.ndarray,
    *,
    clf: str = "svm",
    Cs: Sequence[float] | np.ndarray = C_GRID,
    scale: Scaling = DEFAULT_SCALING,
    class_weight: Any = None,
    groups: np.ndarray | None = None,
    cv: int = 5,
    seed: int = 0,
    one_se: bool = False,
    folds: Folds | None = None,
    shared: ScaledFolds | None = None,
    exact: bool = True,
    n_jobs: int | str | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
    sample_weight: np.ndarray | None = None,
) -> Search:
    """Cross-validate a probe for values of C, from coarse to fine, and choose one.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_features) or (n_samples, n_views, n_features)
        All views of an image are trained on, or none is; where it is held out, their decision values are summed.
    y : ndarray, shape (n_samples,)
    clf, scale, class_weight
        As for `make_probe`.
    Cs : sequence of float
        A few are all tried. Of a grid, every fourth is tried, up to where none is better, and then those next to the
        best; benchmarks/README.md has how often that is the choice of all.
    groups, cv, seed
        As for `make_folds`.
    one_se : bool
        Choose the smallest C whose accuracy lies within one standard error (over the folds) of the best (Breiman,
        Friedman, Olshen, Stone 1984), where that is below what is chosen otherwise.
    folds : list of (train, test) index arrays, optional
        Instead of those that `make_folds` makes; each row must be tested on once.
    shared : ScaledFolds, optional
        What another search on the same `X`, `y`, `scale` and `folds` has made, or a new one for others to use.
    exact : bool, default=True
        False stops all fits where those that are only compared stop: enough to count the answers of a C that is known.
    n_jobs : int or "auto", optional
        Folds that run in parallel, by joblib: as threads where memory holds the coordinates of all folds, otherwise by
        the backend that its `parallel_config` chooses, as Dask or Ray. ``"auto"`` takes all cores where that pays.
    memory_limit : int, optional
        Bytes that the process may have; by default what it has, and what is free. The search takes the way that needs
        less where the faster one does not fit in.
    progress : callable, optional
        Called with (tried, n_Cs, 0) whenever values of C were tried, and with (n_Cs, n_Cs, 0) when no more will be.
    sample_weight : ndarray, shape (n_samples,), optional
        Weight of each image in the objective of the fits. In the scaling and in the choice of C all count alike.

    Returns
    -------
    Search
        A fit that did not converge, and a best C at the edge of the grid, are among its notes.

    Raises
    ------
    ProbeError, SettingError
        As for `make_probe` and `make_folds`; or codes that are not finite.
    """
    Cs = np.sort(np.asarray(Cs, dtype=float))
    for C in Cs[[0, -1]]:  # refuses what is wrong before anything is computed
        make_probe(clf, C=C, scale=scale, class_weight=class_weight)
    notes: list[str] = []
    if folds is None:
        folds, notes = make_folds(y, groups, cv=cv, seed=seed)
    if not (finite := np.isfinite(X).all(axis=tuple(range(1, X.ndim)))).all():
        raise not_finite(int(np.sum(~finite)), len(X))
    options: dict[str, Any] = {"clf": clf, "scale": scale, "class_weight": class_weight, "max_iter": MAX_ITER}
    out_of_fold: OutOfFold
    options["n_jobs"] = jobs_that_pay(X.size * len(Cs), len(folds)) if n_jobs == AUTO else n_jobs
    if sample_weight is None and side_by_side_pays(X, y, folds, memory_limit):
        out_of_fold = FoldsSideBySide(X, y, folds, largest_C=float(max(Cs[-1], C_GRID[-1])), shared=shared, **options)
    else:
        options |= {"tol": search_tol(clf, X.size * len(Cs)), "sample_weight": sample_weight}
        out_of_fold = FoldByFold(X, y, folds, **options)
    usual = usual_C(as_rows(X), clf, scale) if len(Cs) > 1 else 1.0
    trials = Trials(out_of_fold, Cs, y, folds, usual_C=usual, progress=progress)
    with out_of_fold.workers:
        best = trials.search(one_se=one_se, exact=exact)
        decision = trials.decision(best, exact=exact)
    if progress is not None:
        progress(len(Cs), len(Cs), 0)
    tried, accuracy, place = Cs[trials.tried], trials.accuracy, trials.tried.index(best)
    notes += _unconverged(trials.converged, tried, place) + edge_notes(Cs, tried, accuracy, place)
    temperature = fit_temperature(decision, trials.truth)
    return Search(tried, accuracy, float(Cs[best]), decision, temperature, trials.classes, folds, notes)


def jobs_that_pay(work: int, n_folds: int) -> int | None:
    """Return how many folds to run at a time, given entries times values of C; None leaves it to `parallel_config`."""
    with lost_workers_explained():
        jobs = effective_n_jobs(None)
        if on_cluster():  # Ray takes one worker unless told a number, and starts all that it is told
            return min(n_folds, jobs if jobs > 1 else effective_n_jobs(-1))
    if work < PARALLEL or jobs > 1:
        return None
    return min(n_folds, cpu_count())


def search_tol(clf: str, work: int) -> float:
    """Return the tolerance of the solver in a search, given entries times values of C."""
    return SEARCH_TOL[clf][work >= PARALLEL]


def not_finite(bad: int, n: int) -> ProbeError:
    """Return the error for codes of `bad` of n images that are not finite."""
    return ProbeError(
        f"the codes of {bad} of {n} images are not finite; "
        f"compute them again with {parameter('precision', 'fp32', of='extract')}, or with other weights"
    )


def fit_probe(
    X: np.ndarray,
    y: np.ndarray,
    *,
    clf: str = "svm",
    C: float | str = "auto",
    scale: Scaling = DEFAULT_SCALING,
    class_weight: Any = None,
    sample_weight: np.ndarray | None = None,
    **search_options: Any,
) -> tuple[Pipeline, Search]:
    """Choose C by cross-validation, unless it is given, and fit the probe on all rows.

    Parameters
    ----------
    X, y, clf, scale, class_weight, sample_weight
        As for `search_C`.
    C : float or "auto"
        ``"auto"`` searches `C_GRID`; a number is cross-validated alone.
    **search_options
        ``groups``, ``folds``, ``cv``, ``seed``, ``one_se``, ``n_jobs`` and ``progress`` of `search_C`.

    Returns
    -------
    probe : Pipeline
        Fitted.
    search : Search
        With the notes of both steps.
    """
    options: dict[str, Any] = {"clf": clf, "scale": scale, "class_weight": class_weight, "sample_weight": sample_weight}
    search = search_C(X, y, Cs=grid_of(C), **options, **search_options)
    return fit_chosen(X, y, search, **options), search


def fit_chosen(
    X: np.ndarray,
    y: np.ndarray,
    search: Search,
    *,
    clf: str = "svm",
    scale: Scaling = DEFAULT_SCALING,
    class_weight: Any = None,
    sample_weight: np.ndarray | None = None,
) -> Pipeline:
    """Fit the probe to all rows with the C that a search chose; what there is to say is added to the search's notes.

    Parameters
    ----------
    X, y, clf, scale, class_weight, sample_weight
        As for `search_C`.
    search : Search

    Returns
    -------
    Pipeline
        Fitted.
    """
    probe = make_probe(clf, C=search.C, scale=scale, class_weight=class_weight)
    scaler, classifier = probe[0], probe[-1]
    options: dict[str, Any] = {"loss": LOSSES[clf], "class_weight": class_weight, "max_iter": classifier.max_iter}
    with few_threads(X, SMALL_FIT):
        # Not by the classifier's own `fit`, which warns: to catch a warning changes the filters of all threads
        rows = scaler.fit_transform(as_rows(X))
        options["sample_weight"] = None if sample_weight is None else repeated(sample_weight, X)
        path = fit_path(rows, repeated(y, X), [search.C], warn=False, tol=classifier.tol, **options)
    set_fitted(classifier, path)
    if not path.converged[0]:
        search.notes.append(f"the fit to all images did not converge within {MAX_ITER} steps; {CONVERGE}")
    return probe


def grid_of(C: float | str) -> np.ndarray:
    """Return the values that `C` means: `C_GRID` for ``"auto"``, or the one that is given."""
    if C != AUTO and not (isinstance(C, numbers.Real) and C > 0):
        raise SettingError(f"C is {C!r}; it must be 'auto' or a positive number")
    return C_GRID if C == AUTO else np.array([float(C)])


def _unconverged(converged: np.ndarray, Cs: np.ndarray, best: int) -> list[str]:
    """Say which fits did not converge, given shape (n_folds, n_Cs), and what to do about it."""
    if converged.all():
        return []
    failed = np.flatnonzero(~converged.all(axis=0))
    which = f"C = {Cs[failed[0]]:g}" + (f" to {Cs[failed[-1]]:g}" if len(failed) > 1 else "")
    chosen = "the chosen C is among them" if best in failed else "the chosen C is not among them"
    return [
        f"in cross-validation, {np.sum(~converged)} of {converged.size} fits did not converge within {MAX_ITER} steps "
        f"({which}; {chosen}); {CONVERGE}"
    ]
