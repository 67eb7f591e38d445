"""Linear classifiers fitted in passes over chunks: the optimum that is found in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

import cnncodes.passes
from cnncodes.passes import ChunkedFit, fit_in_passes

N, SAMPLE = 3000, 700


def rows_of(n_classes: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_classification(
        N, d, n_informative=min(d, 20), n_redundant=0, n_classes=n_classes, class_sep=0.7, random_state=0
    )
    X[:, 0] *= 30.0  # not scaled
    X[:, 1] = X[:, 2]
    return X.astype(np.float32), y


def chunks_of(X: np.ndarray, y: np.ndarray) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(y), 777):
            yield X[start : start + 777], y[start : start + 777]

    return chunks


def fitted(
    X: np.ndarray, y: np.ndarray, C: float, loss: str, of_class: np.ndarray, max_passes: int = 100
) -> ChunkedFit:
    return fit_in_passes(
        chunks_of(X, y), N, X[:SAMPLE], y[:SAMPLE], C=C, loss=loss, of_class=of_class, max_passes=max_passes
    )


def objective(
    coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray, C: float, loss: str, w: np.ndarray
):
    """scikit-learn's, written anew: liblinear weighs only the positive class of each of several problems."""
    scores = X.astype(np.float64) @ coef.T + intercept
    if loss == "squared_hinge":
        positive = y[:, None] == (np.arange(len(w)) if len(w) > 2 else [1])
        weights = np.where(positive, w, 1.0) if len(w) > 2 else w[y][:, None]
        slack = np.maximum(0, 1 - np.where(positive, scores, -scores))
        return 0.5 * (coef**2).sum() + 0.5 * (intercept**2).sum() + C * (weights * slack**2).sum()
    if len(w) == 2:
        scores = np.hstack([np.zeros_like(scores), scores])
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]
    return 0.5 * (coef**2).sum() + C * (w[y] * losses).sum()


@pytest.mark.parametrize("weights", ["even", "uneven"])
@pytest.mark.parametrize("d", [40, 900])  # more columns than rows of the sample: its curvature has no full rank
@pytest.mark.parametrize("C", [1e-4, 0.01, 10.0])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("loss", ["squared_hinge", "log_loss"])
def test_optimum_is_that_of_scikit_learn(loss, n_classes, C, d, weights):
    if d == 900 and C != 0.01:
        pytest.skip("one value is enough for the wide rows")
    X, y = rows_of(n_classes, d)
    w = np.ones(n_classes) if weights == "even" else np.linspace(0.5, 3.0, n_classes)
    ours = fitted(X, y, C, loss, w)
    assert ours.converged
    class_weight = dict(enumerate(w))
    if loss == "squared_hinge":
        theirs = LinearSVC(C=C, class_weight=class_weight, dual=False, tol=1e-8, max_iter=100_000)
    else:
        theirs = LogisticRegression(C=C, class_weight=class_weight, tol=1e-7, max_iter=10_000, solver="newton-cholesky")
    theirs.fit(X.astype(np.float64), y)
    best = objective(theirs.coef_, theirs.intercept_, X, y, C, loss, w)
    assert objective(ours.coef, ours.intercept, X, y, C, loss, w) <= best * (1 + 3e-6)
    assert ours.objective == pytest.approx(best, rel=3e-6)
    scores = X @ ours.coef.T + ours.intercept
    margin = np.abs(scores[:, 0]) if n_classes == 2 else np.diff(np.sort(scores, axis=1)[:, -2:])[:, 0]
    answers = (scores[:, 0] > 0).astype(int) if n_classes == 2 else scores.argmax(axis=1)
    clear = margin > 1e-2
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(answers[clear], theirs.predict(X)[clear])


def test_one_curvature_for_all_classes_reaches_the_same_optimum(monkeypatch):
    X, y = rows_of(4, 40)
    each = fitted(X, y, 0.1, "squared_hinge", np.ones(4))
    monkeypatch.setattr(cnncodes.passes, "CURVATURE_BYTES", 0)
    shared = fitted(X, y, 0.1, "squared_hinge", np.ones(4))
    assert shared.converged
    assert shared.objective == pytest.approx(each.objective, rel=1e-6)


def test_where_single_precision_is_lost_double_goes_on(monkeypatch):
    X, y = rows_of(2, 40)
    monkeypatch.setattr(cnncodes.passes, "GAP", 1e-15)
    ours = fitted(X, y, 1e3, "squared_hinge", np.ones(2))
    theirs = LinearSVC(C=1e3, dual=False, tol=1e-12, max_iter=100_000).fit(X.astype(np.float64), y)
    best = objective(theirs.coef_, theirs.intercept_, X, y, 1e3, "squared_hinge", np.ones(2))
    assert ours.objective <= best * (1 + 1e-10)


def test_too_few_passes_are_told():
    X, y = rows_of(4, 40)
    ours = fitted(X, y, 10.0, "log_loss", np.ones(4), max_passes=2)
    assert not ours.converged
    assert ours.n_passes == 2
