"""Linear probes on codes: their scaling, their C, and cross-validation over a whole grid of C at once."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from cnncodes.errors import ProbeError, nearest
from cnncodes.reduction import RowSpace, worth_reducing
from cnncodes.solvers import DenseLinearSVC, fit_path

__all__ = [
    "CLASSIFIERS",
    "C_GRID",
    "SCALINGS",
    "CodeScaler",
    "Search",
    "fit_probe",
    "make_folds",
    "make_probe",
    "search_C",
    "winner",
]

logger = logging.getLogger(__name__)

C_GRID = np.logspace(-6, 5, 45)  # Kornblith, Shlens, Le 2019: the best C of one network spans five orders of magnitude
MAX_ITER = 1000
FLOOR = 1e-6  # of the largest deviation: a column below it is noise, and dividing by its deviation would blow it up


class CodeScaler(StandardScaler):
    """`StandardScaler` that does not blow up columns which hardly vary: their deviation is taken as a floor.

    The floor is 1e-6 of the largest deviation of any column. Parameters and attributes are those of `StandardScaler`.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> CodeScaler:
        """Learn mean and deviation of each column; `X` has shape (n_samples, n_features)."""
        super().fit(X, y, sample_weight)
        self.scale_ = np.maximum(self.scale_, FLOOR * self.scale_.max())
        return self


CLASSIFIERS = {"svm": DenseLinearSVC, "logreg": LogisticRegression}
SCALINGS = {
    "standard": CodeScaler,  # each column to mean 0 and deviation 1
    "l2": Normalizer,  # each row to length 1
    "none": FunctionTransformer,
}


def make_probe(
    clf: str = "svm", *, C: float = 1.0, scale: str = "standard", class_weight: Any = None, max_iter: int = MAX_ITER
) -> Pipeline:
    """Make an unfitted probe: scaling and a linear classifier, as a scikit-learn pipeline.

    Parameters
    ----------
    clf : {"svm", "logreg"}
        Linear SVM (one-vs-rest, squared hinge) or multinomial logistic regression, both with the l2 penalty.
    C : float
        Inverse strength of the penalty.
    scale : {"standard", "l2", "none"}
    class_weight : {"balanced"} or dict, optional
    max_iter : int

    Returns
    -------
    Pipeline

    Raises
    ------
    ProbeError
        No such classifier or scaling, or C is not positive.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> make_probe("svm", C=0.1).fit(*load_iris(return_X_y=True)).predict([[5.1, 3.5, 1.4, 0.2]])
    array([0])
    """
    for name, value, table in (("clf", clf, CLASSIFIERS), ("scale", scale, SCALINGS)):
        if value not in table:
            raise ProbeError(f"no {name} {value!r}.{nearest(value, table)} There are {', '.join(table)}")
    if not C > 0:
        raise ProbeError(f"C is {C}; it must be positive")
    classifier = CLASSIFIERS[clf](C=C, class_weight=class_weight, max_iter=max_iter)
    return make_pipeline(SCALINGS[scale](), classifier)


@dataclass
class Search:
    """Cross-validation of probes over a grid of C.

    Attributes
    ----------
    Cs : ndarray, shape (n_Cs,)
    accuracy : ndarray, shape (n_folds, n_Cs)
        Of the held-out fold.
    C : float
        The value with the best mean accuracy; of several the smallest, which regularises most.
    decision : ndarray, shape (n_samples, n_classes) or (n_samples, 1) for two classes
        Out-of-fold decision values for that C.
    classes : ndarray, shape (n_classes,)
    folds : list of (train, test) index arrays
    notes : list of str
    """

    Cs: np.ndarray
    accuracy: np.ndarray
    C: float
    decision: np.ndarray
    classes: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    notes: list[str] = field(default_factory=list)

    @property
    def predictions(self) -> np.ndarray:
        """Out-of-fold predictions for the chosen C, shape (n_samples,)."""
        return self.classes[winner(self.decision)]


def winner(decision: np.ndarray) -> np.ndarray:
    """Return the index of the class that decision values of shape (n, n_classes) or (n, 1) name, shape (n,)."""
    return (decision[:, 0] > 0).astype(int) if decision.shape[1] == 1 else decision.argmax(axis=1)


def make_folds(
    y: np.ndarray, groups: np.ndarray | None = None, *, cv: int = 5, seed: int = 0
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]:
    """Split rows into stratified folds; the images of a group stay on one side.

    Parameters
    ----------
    y : ndarray, shape (n_samples,)
    groups : ndarray, shape (n_samples,), optional
        An empty string means a group of its own.
    cv : int
        Fewer folds are made where the smallest class has fewer images or groups; a note says so.
    seed : int

    Returns
    -------
    folds : list of (train, test) index arrays
    notes : list of str

    Raises
    ------
    ProbeError
        There is one class only, or a class that cannot be on both sides.
    """
    counts = Counter(y.tolist())
    if len(counts) < 2:
        only = f"one class only, {next(iter(counts))!r}" if counts else "no labelled images"
        raise ProbeError(f"there is {only}; a classifier needs at least two, each a folder of images")
    unit = "image"
    if groups is not None and (groups != "").any():
        groups = np.array([group or f"\0{i}" for i, group in enumerate(groups)])
        counts = Counter(label for label, _ in set(zip(y.tolist(), groups.tolist(), strict=True)))
        unit = "group"
    else:
        groups = None
    rarest, fewest = min(counts.items(), key=lambda item: item[1])
    if fewest < 2:
        raise ProbeError(
            f"the class {rarest!r} has one {unit} only, which cannot be both learned from and tested on; "
            f"add {unit}s of it, or take the class out"
        )
    notes = []
    if fewest < cv:
        notes.append(f"{fewest} folds instead of {cv}: the class {rarest!r} has {fewest} {unit}s")
        cv = fewest
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_splits=cv, shuffle=True, random_state=seed)
    folds = [(train, test) for train, test in splitter.split(np.zeros(len(y)), y, groups) if len(test)]
    for train, _ in folds:
        if missing := counts.keys() - set(y[train].tolist()):
            raise ProbeError(
                f"a fold has no image of {sorted(missing)[0]!r} to learn from: its groups are too few; use --cv 2"
            )
    return folds, notes


def search_C(
    X: np.ndarray,
    y: np.ndarray,
    *,
    clf: str = "svm",
    Cs: Sequence[float] | np.ndarray = C_GRID,
    scale: str = "standard",
    class_weight: Any = None,
    groups: np.ndarray | None = None,
    cv: int = 5,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Search:
    """Cross-validate a probe for each C of a grid, and choose the best.

    Parameters
    ----------
    X : ndarray, shape (n_samples, n_features)
    y : ndarray, shape (n_samples,)
    clf, scale, class_weight
        As for `make_probe`.
    Cs : sequence of float
        Ascending.
    groups, cv, seed
        As for `make_folds`.
    n_jobs : int, optional
        Folds that run in parallel, by joblib.

    Returns
    -------
    Search
    """
    make_probe(clf, C=float(min(Cs)), scale=scale)  # refuses what is wrong before anything is computed
    folds, notes = make_folds(y, groups, cv=cv, seed=seed)
    classes = np.unique(y)
    Cs = np.asarray(Cs, dtype=float)
    tasks = (delayed(_fold_path)(X, y, train, test, clf, Cs, scale, class_weight) for train, test in folds)
    results = Parallel(n_jobs=n_jobs)(tasks)
    accuracy = np.array(
        [
            [np.mean(classes[winner(values)] == y[test]) for values in decision]
            for (_, test), (decision, _) in zip(folds, results, strict=True)
        ]
    )
    best = int(accuracy.mean(axis=0).argmax())
    values = np.empty((len(y), results[0][0].shape[2]))
    for (_, test), (decision, _) in zip(folds, results, strict=True):
        values[test] = decision[best]
    notes += sorted({f"in cross-validation: {message}" for _, messages in results for message in messages})
    if len(Cs) > 1 and best in (0, len(Cs) - 1):
        notes.append(f"the best C, {Cs[best]:g}, lies at the edge of the grid; a wider one may do better")
    return Search(Cs, accuracy, float(Cs[best]), values, classes, folds, notes)


def fit_probe(
    X: np.ndarray,
    y: np.ndarray,
    *,
    clf: str = "svm",
    C: float | str = "auto",
    scale: str = "standard",
    class_weight: Any = None,
    groups: np.ndarray | None = None,
    cv: int = 5,
    seed: int = 0,
) -> tuple[Pipeline, Search]:
    """Choose C by cross-validation, unless it is given, and fit the probe on all rows.

    Parameters
    ----------
    X, y, clf, scale, class_weight, groups, cv, seed
        As for `search_C`.
    C : float or "auto"
        ``"auto"`` searches `C_GRID`; a number is cross-validated alone.

    Returns
    -------
    probe : Pipeline
        Fitted.
    search : Search
        With the notes of both steps.
    """
    if C != "auto" and not (isinstance(C, (int, float)) and C > 0):
        raise ProbeError(f"C is {C!r}; it must be 'auto' or a positive number")
    Cs = C_GRID if C == "auto" else np.array([float(C)])
    search = search_C(X, y, clf=clf, Cs=Cs, scale=scale, class_weight=class_weight, groups=groups, cv=cv, seed=seed)
    probe = make_probe(clf, C=search.C, scale=scale, class_weight=class_weight)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        probe.fit(X, y)
    search.notes += [" ".join(str(item.message).split()) for item in caught]
    return probe, search


def _fold_path(
    X: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    clf: str,
    Cs: np.ndarray,
    scale: str,
    class_weight: Any,
) -> tuple[np.ndarray, list[str]]:
    """Return the decision values of the held-out rows for each C, shape (n_Cs, n_test, k), and the warnings."""
    scaler = SCALINGS[scale]().fit(X[train])
    inside, outside = scaler.transform(X[train]), scaler.transform(X[test])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        if clf == "svm":
            decision = fit_path(inside, y[train], Cs, class_weight=class_weight, max_iter=MAX_ITER).decision_function(
                outside
            )
        else:
            decision = _logistic_path(inside, y[train], outside, Cs, class_weight)
    return decision, [" ".join(str(item.message).split()) for item in caught]


def _logistic_path(
    inside: np.ndarray, y: np.ndarray, outside: np.ndarray, Cs: np.ndarray, class_weight: Any
) -> np.ndarray:
    """Warm-started from the small end; where there are fewer rows than columns, in the space that the rows span."""
    if worth_reducing(*inside.shape):
        space = RowSpace(inside)
        inside, outside = space.Z, space.project(outside)
    model = LogisticRegression(max_iter=MAX_ITER, warm_start=True, class_weight=class_weight)
    decision = [model.set_params(C=C).fit(inside, y).decision_function(outside) for C in Cs]
    return np.array(decision).reshape(len(Cs), len(outside), -1)
