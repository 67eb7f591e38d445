"""Linear probes on codes: a scaling and a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline

from cnncodes.codes.views import as_rows, summed
from cnncodes.errors import SettingError, nearest
from cnncodes.probes.scaling import Scaling, make_scaler
from cnncodes.solvers.classifiers import DenseLinearSVC, DenseLogisticRegression
from cnncodes.solvers.path import LinearPath
from cnncodes.vocabulary import DEFAULT_SCALING

__all__ = [
    "CLASSIFIERS",
    "LOSSES",
    "MAX_ITER",
    "decide",
    "make_probe",
    "set_fitted",
    "usual_C",
]

MAX_ITER = 1000
MIN_C = 1e-12

CLASSIFIERS: dict[str, Any] = {"svm": DenseLinearSVC, "logreg": DenseLogisticRegression}
LOSSES = {"svm": "squared_hinge", "logreg": "log_loss"}  # their objectives, as `fit_path` calls them
# C where scaled codes have a total deviation of 1. A squared hinge curves with 2, the logistic loss with at most 1/4.
USUAL_C = {"svm": 1.0, "logreg": 8.0}
SPREAD_ROWS = 1000  # are enough to know how much scaled codes vary


def make_probe(
    clf: str = "svm",
    *,
    C: float = 1.0,
    scale: Scaling = DEFAULT_SCALING,
    class_weight: Any = None,
    max_iter: int = MAX_ITER,
) -> Pipeline:
    """Make an unfitted probe: scaling and a linear classifier, as a scikit-learn pipeline.

    Parameters
    ----------
    clf : {"svm", "logreg"}
        Linear SVM (one-vs-rest, squared hinge) or multinomial logistic regression, both with the l2 penalty.
    C : float
        Inverse strength of the penalty.
    scale : {"shrunk", "standard", "l2", "none"} or transformer
        Scaling of the codes; for layers side by side, what `scaling_of` returns.
    class_weight : {"balanced"} or dict, optional
    max_iter : int
        Bound on the steps of the solver. Both solvers are deterministic, so there is no seed.

    Returns
    -------
    Pipeline

    Raises
    ------
    SettingError
        No such classifier, scaling or class weight, or C is not a positive number.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> make_probe("svm", C=0.1).fit(*load_iris(return_X_y=True)).predict([[5.1, 3.5, 1.4, 0.2]])
    array([0])
    """
    if clf not in CLASSIFIERS:
        raise SettingError(f"no clf {clf!r}.{nearest(clf, CLASSIFIERS)} There are {', '.join(CLASSIFIERS)}")
    scaler = make_scaler(scale)
    if not (class_weight in (None, "balanced") or isinstance(class_weight, Mapping)):
        raise SettingError(f"no class weight {class_weight!r}; there is 'balanced', or a weight for each class")
    if not 0 < C < np.inf:
        raise SettingError(f"C is {C}; it must be positive and finite")
    if not MIN_C <= C <= 1 / MIN_C:
        raise SettingError(f"C is {C:g}; it must be from {MIN_C:g} to {1 / MIN_C:g}, beyond which rounding decides")
    classifier = CLASSIFIERS[clf](C=C, class_weight=class_weight, max_iter=max_iter)
    return make_pipeline(scaler, classifier)


def set_fitted(classifier: Any, path: LinearPath) -> None:
    """Give a classifier of `make_probe` the fitted attributes that its own `fit` would give it.

    Parameters
    ----------
    classifier : DenseLinearSVC or DenseLogisticRegression
        Changed in place.
    path : LinearPath
        The fit for a single value of C.
    """
    classifier.coef_, classifier.intercept_ = path.coefficients(0)
    classifier.classes_, classifier.n_features_in_ = path.classes, path.n_features
    steps = path.n_iter.astype(np.int32)
    classifier.n_iter_ = steps if isinstance(classifier, DenseLogisticRegression) else int(steps[0])


def decide(probe: Pipeline, X: np.ndarray) -> np.ndarray:
    """Return decision values of images, shape (n, n_classes) or (n, 1) for two classes, summed over their views.

    Parameters
    ----------
    probe : Pipeline
        Fitted.
    X : ndarray, shape (n, n_features) or (n, n_views, n_features)
    """
    decision = probe.decision_function(as_rows(X))
    return summed(decision.reshape(len(decision), -1), X)


def usual_C(X: np.ndarray, clf: str = "svm", scale: Scaling = DEFAULT_SCALING) -> float:
    """Return the C that is taken where cross-validation cannot tell: it regularises as much whatever the scaling is.

    On few images with the scaling that is the default, this C does about as well as one that is searched.

    Parameters
    ----------
    X : ndarray, shape (n, n_features)
        Codes, not scaled.
    clf, scale
        As for `make_probe`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 100))
    >>> round(usual_C(X), 6), round(usual_C(X, scale="standard"), 6), round(usual_C(X, "logreg"), 6)
    (1.0, 0.01, 8.0)
    """
    scaled = make_scaler(scale).fit_transform(X[:: -(-len(X) // SPREAD_ROWS)])
    spread = float(np.var(scaled, axis=0, dtype=np.float64).sum())
    return USUAL_C[clf] / spread if 0 < spread < np.inf else USUAL_C[clf]
