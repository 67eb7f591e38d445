"""Rows and labels to fit, objectives written out, and a reference solver."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from cnncodes.solvers.classifiers import DenseLinearSVC


def codes(n: int, d: int, K: int, *, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative skewed rows in overlapping clusters, like pooled activations after a ReLU."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(K), np.arange(K), rng.integers(0, K, n - 2 * K)])
    latent = rng.standard_normal((K, 12))[y] + spread * rng.standard_normal((n, 12))
    X = np.maximum(latent @ rng.standard_normal((12, d)) / 3 + 0.3 * rng.standard_normal((n, d)) - 0.3, 0.0)
    return X * rng.lognormal(0.0, 0.5, d), y


def unscaled(X: np.ndarray) -> np.ndarray:
    return X * np.logspace(-3, 3, X.shape[1])[np.random.default_rng(1).permutation(X.shape[1])]


def degenerate(X: np.ndarray) -> np.ndarray:
    """With constant, zero and repeated columns, and repeated rows."""
    X = np.column_stack([X, np.ones(len(X)), np.zeros(len(X)), X[:, :3]])
    X[1::7] = X[0]
    return X


def objective(model: LinearSVC, X: np.ndarray, y: np.ndarray, weight: np.ndarray | float = 1.0) -> float:
    """The sum of the one-vs-rest objectives, from the published attributes only."""
    total = 0.0
    X = np.asarray(X, dtype=np.float64)
    for k, (w, b) in enumerate(zip(model.coef_, model.intercept_, strict=True)):
        positive = model.classes_[1 if len(model.classes_) == 2 else k]
        slack = np.maximum(0.0, 1.0 - np.where(y == positive, 1.0, -1.0) * (X @ w + b))
        scaled = b / model.intercept_scaling
        total += 0.5 * (w @ w + scaled**2) + model.C * (weight * slack**2).sum()
    return total


def liblinear(model: DenseLinearSVC, X: np.ndarray, y: np.ndarray, **fit) -> LinearSVC:
    """The reference; at high C it may stop at its own bound on iterations, where only "not above it" can be asked."""
    parameters = model.get_params() | {"tol": 1e-10, "max_iter": 3000, "dual": X.shape[0] < X.shape[1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LinearSVC(**parameters).fit(X, y, **fit)


SHAPES = {
    "tall": (400, 20, 3),
    "square": (150, 140, 4),
    "wide": (60, 700, 3),
    "binary": (300, 30, 2),
    "hundred": (300, 30, 100),
}


COLUMNS = {
    "scaled": lambda X: (X - X.mean(0)) / X.std(0),
    "plain": lambda X: X,
    "unscaled": unscaled,
    "degenerate": degenerate,
}


def logistic_objective(coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray, C: float) -> float:
    scores = X @ coef.T + intercept
    if scores.shape[1] == 1:
        losses = np.logaddexp(0.0, scores[:, 0]) - (y == 1) * scores[:, 0]
    else:
        losses = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(y)), y]
    return 0.5 * (coef**2).sum() + C * losses.sum()


class RowsElsewhere:
    """Stands in for an array that memory does not hold, and counts what is read of it."""

    dtype = np.dtype(np.float32)

    def __init__(self, X: np.ndarray) -> None:
        self.stored, self.shape, self.most, self.read = X.astype(np.float16), X.shape, 0, 0

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        part = self.stored[index].astype(np.float32)
        self.most, self.read = max(self.most, len(part)), self.read + len(part)
        return part
