"""Fits linear classifiers to the same rows for several values of C, each from the solution for the one before."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_X_y

from cnncodes.errors import RangeError
from cnncodes.solvers.device import rows_of
from cnncodes.solvers.hinge import one_vs_rest
from cnncodes.solvers.hinge_path import solve_hinge_path
from cnncodes.solvers.linear_path import LinearPath
from cnncodes.solvers.logistic import LogisticProblem
from cnncodes.solvers.logistic_path import solve_logistic_path
from cnncodes.solvers.matrix import Matrix, Rows
from cnncodes.solvers.row_space import RowSpace, worth_reducing
from cnncodes.solvers.threads import SMALL_FIT, few_threads

__all__ = [
    "FLOATS",
    "MAX_C_SQUARES",
    "checked_weights",
    "fit_in_passes",
    "fit_path",
    "fit_validated",
    "warn_unconverged",
]

FLOATS = [np.float64, np.float32]
LOSSES = ("squared_hinge", "log_loss")
# If C times the sum of all squared entries is larger, the fit is refused: the penalty lies far below the rounding of
# the loss, and the descent would follow that rounding for ever.
MAX_C_SQUARES = 1e60


def fit_path(
    X: ArrayLike,
    y: ArrayLike,
    Cs: Sequence[float] | NDArray,
    *,
    loss: str = "squared_hinge",
    fit_intercept: bool = True,
    intercept_scaling: float = 1.0,
    class_weight: dict | str | None = None,
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-4,
    max_iter: int = 1000,
    warn: bool = True,
) -> LinearPath:
    """Fit a linear classifier for every C, from the most regularised one on, each starting from the one before.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Dense rows; float32 and float64 are used without conversion.
    y : array-like of shape (n_samples,)
        Labels.
    Cs : sequence of float
        Positive, in any order.
    loss : {"squared_hinge", "log_loss"}, default="squared_hinge"
        The objective of `sklearn.svm.LinearSVC`, or that of `sklearn.linear_model.LogisticRegression`.
    fit_intercept, intercept_scaling, class_weight, sample_weight, tol, max_iter
        As in these estimators, so that `intercept_scaling` is for the SVM only; `max_iter` bounds the steps for
        each C.
    warn : bool
        False leaves it to `LinearPath.converged` to tell of what did not converge.

    Returns
    -------
    LinearPath

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If `max_iter` steps were not enough.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> path = fit_path(X, y, [0.01, 1.0, 100.0])
    >>> [(path.decision_function(X)[i].argmax(axis=1) == y).mean().round(2).item() for i in range(3)]
    [0.81, 0.97, 0.97]
    """
    if loss not in LOSSES:
        raise ValueError(f"no loss {loss!r}; there are {', '.join(LOSSES)}")
    if not len(Cs) or not all(0 < C < np.inf for C in Cs):
        raise ValueError(f"Cs are {list(Cs)}; there must be some, all positive and finite")
    if not 0 < intercept_scaling < np.inf:
        raise ValueError(f"intercept_scaling is {intercept_scaling}; it must be positive and finite")
    check_classification_targets(y)
    rows, labels = check_X_y(X, y, dtype=FLOATS, order="C")
    path = fit_validated(
        rows,
        labels,
        Cs,
        loss=loss,
        bias=float(intercept_scaling) if fit_intercept else 0.0,
        class_weight=class_weight,
        sample_weight=sample_weight,
        tol=tol,
        max_iter=max_iter,
    )
    if warn:
        warn_unconverged(path, max_iter)
    return path


def fit_in_passes(
    X: Matrix,
    y: NDArray,
    C: float,
    *,
    loss: str,
    class_weight: dict | str | None,
    start: tuple[NDArray, NDArray],
    memory: int,
    tol: float = 1e-4,
    max_iter: int = 1000,
) -> LinearPath:
    """Fit a linear classifier, as `fit_path` does, to rows that memory does not hold.

    Parameters
    ----------
    X : Matrix of shape (n_samples, n_features)
        Reads rows where they are asked for: a step asks for all of them once or a few times, a block at a time.
    y : array of shape (n_samples,)
        Labels.
    C, loss, class_weight, tol, max_iter
        As for `fit_path`.
    start : tuple of ndarrays
        `coef_` and `intercept_` that are near the solution: for some of the rows, with C in proportion.
    memory : int
        Bytes for what the SVM keeps of the rows and for its matrices. Classes are solved together as far as these fit
        in, but at least one at a time.

    Returns
    -------
    LinearPath
        Whose `converged` tells whether `max_iter` steps were enough.
    """
    return fit_validated(
        X,
        y,
        [C],
        loss=loss,
        bias=1.0,
        class_weight=class_weight,
        sample_weight=None,
        tol=tol,
        max_iter=max_iter,
        start=np.vstack([start[0].T, start[1]]),
        memory=memory,
    )


def fit_validated(
    X: Matrix,
    y: NDArray,
    Cs: Iterable[float],
    *,
    loss: str,
    bias: float,
    class_weight: dict | str | None,
    sample_weight: ArrayLike | None,
    tol: float,
    max_iter: int,
    start: NDArray | None = None,
    memory: int | None = None,
) -> LinearPath:
    """Fit a linear classifier for every C to rows that are checked already.

    Parameters
    ----------
    X : Matrix of shape (n_samples, n_features)
        float32 or float64.
    y : array of shape (n_samples,)
        Labels.
    Cs, loss, class_weight, sample_weight, tol, max_iter
        As for `fit_path`.
    bias : float
        Value of the constant column; 0 for no intercept.
    start : ndarray of shape (n_features + 1, k), optional
        Weights that are near the solution for the smallest C; the last row has the intercepts.
    memory : int, optional
        As for `fit_in_passes`.

    Returns
    -------
    LinearPath

    Raises
    ------
    ValueError
        Classes or weights that leave nothing to separate.
    RangeError
        Numbers beyond which the penalty is lost in rounding.
    """
    Cs = np.asarray(list(Cs), dtype=np.float64)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
            f"{classes.tolist()[0]!r}"
        )
    weights, of_class = checked_weights(sample_weight, class_weight, classes, codes, y, loss)
    if (weights <= 0).any():
        kept = weights > 0
        X, codes, weights = X[kept], codes[kept], weights[kept]
    order = np.argsort(Cs, kind="stable")
    ascending = Cs[order].tolist()
    # The constant column of the SVM is penalised and lies in the span; the intercept of the other one does not.
    column = bias if loss == "squared_hinge" else 0.0
    with few_threads(X, SMALL_FIT):
        strongest = ascending[-1] * weights.max(initial=0) * of_class.max()
        if isinstance(X, np.ndarray) and not strongest * Rows(X).squares <= MAX_C_SQUARES:
            raise RangeError
        space = RowSpace(X, column, strongest) if isinstance(X, np.ndarray) and worth_reducing(*X.shape) else None
        rows = rows_of(X, column) if space is None else rows_of(space.Z)
        if loss == "squared_hinge":
            problems = one_vs_rest(rows, codes, weights, of_class, start, memory)
            solved = solve_hinge_path(problems, ascending, tol=tol, max_iter=max_iter)
        else:
            problem = LogisticProblem(rows, codes, len(classes), weights * of_class[codes], bool(bias))
            solved = solve_logistic_path(problem, ascending, start=start, tol=tol, max_iter=max_iter)
    solutions = [solved[i] for i in np.argsort(order)]
    return LinearPath(
        Cs=Cs,
        classes=classes,
        n_iter=np.array([s.n_iter.max() for s in solutions]),
        converged=np.array([s.converged.all() for s in solutions]),
        objective=np.array([s.objective.sum() for s in solutions]),
        n_features=X.shape[1],
        _weights=[s.W[: rows.p] for s in solutions],
        _intercepts=np.array([s.W[rows.p :].sum(axis=0) for s in solutions]),
        _bias=column,
        _space=space,
    )


def checked_weights(
    sample_weight: ArrayLike | None,
    class_weight: dict | str | None,
    classes: NDArray,
    codes: NDArray,
    y: NDArray,
    loss: str,
) -> tuple[NDArray, NDArray]:
    """Return the weights of the rows and those of the classes; raise where they leave nothing to separate."""
    weights = _check_sample_weight(sample_weight, y, dtype=np.float64)
    empty = np.flatnonzero(np.bincount(codes, weights, len(classes)) == 0)
    if loss == "log_loss" and len(classes) - len(empty) < 2:
        raise ValueError("Rows of one class only have a positive sample_weight; this solver needs those of two")
    if len(empty) and class_weight == "balanced":
        raise ValueError(
            f"No row of the class {classes.tolist()[empty[0]]!r} has a positive sample_weight to be balanced by"
        )
    of_class = compute_class_weight(class_weight, classes=classes, y=y, sample_weight=weights)
    if not ((of_class >= 0) & np.isfinite(of_class)).all():
        raise ValueError(f"class_weight is {class_weight}; weights must be finite, and none below 0")
    if loss == "log_loss" and not of_class.any():
        raise ValueError(f"class_weight is {class_weight}; at least one class must weigh more than 0")
    return weights, of_class


def warn_unconverged(path: LinearPath, max_iter: int) -> None:
    """Warn of the values of C for which `max_iter` steps were not enough, on behalf of the caller's caller."""
    failed = path.Cs[~path.converged]
    if len(failed):
        warnings.warn(
            f"The solver did not converge within max_iter={max_iter} steps for C="
            + ", ".join(f"{C:g}" for C in failed)
            + ". Scale the columns (StandardScaler), or raise max_iter or tol.",
            ConvergenceWarning,
            stacklevel=3,
        )
