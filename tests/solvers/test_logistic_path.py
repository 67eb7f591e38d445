"""Paths of logistic regression reach the objective of scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from solver_problems import COLUMNS, SHAPES, codes, logistic_objective

from cnncodes.solvers.path import fit_path


@pytest.mark.parametrize("columns", ["scaled", "plain", "degenerate"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logistic_path_reaches_the_objective_of_scikit_learn(shape, columns):
    X, y = codes(*SHAPES[shape])
    X = COLUMNS[columns](X)
    Cs = [1e-6, 1e-3, 0.1, 1.0]
    path = fit_path(X, y, Cs, loss="log_loss", tol=1e-8, max_iter=3000)
    assert path.converged.all()
    for i, C in enumerate(Cs):
        coef, intercept = path.coefficients(i)
        ours = logistic_objective(coef, intercept, X, y, C)
        assert ours == pytest.approx(path.objective[i], rel=1e-9)
        np.testing.assert_allclose(path.decision_function(X[:5])[i], X[:5] @ coef.T + intercept, atol=1e-8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            reference = LogisticRegression(C=C, tol=1e-8, max_iter=500).fit(X, y)
        assert ours <= logistic_objective(reference.coef_, reference.intercept_, X, y, C) * (1 + 1e-6)


def test_logistic_path_in_single_precision():
    X, y = codes(600, 60, 5)
    X = X.astype(np.float32)
    exact = fit_path(X.astype(np.float64), y, np.logspace(-5, 2, 15), loss="log_loss", tol=1e-8)
    usual = fit_path(X, y, exact.Cs, loss="log_loss")
    assert usual.converged.all()
    assert (usual.decision_function(X).argmax(2) == exact.decision_function(X).argmax(2)).mean() > 0.99
    tight = fit_path(X, y, exact.Cs, loss="log_loss", tol=1e-8)
    np.testing.assert_allclose(tight.objective, exact.objective, rtol=1e-9)


@pytest.mark.parametrize("K", [2, 4])
def test_logistic_weights_and_intercept_mean_what_they_mean_to_scikit_learn(K):
    X, y = codes(200, 15, K)
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    for settings in ({"class_weight": "balanced"}, {"class_weight": {0: 3.0}}, {"fit_intercept": False}):
        path = fit_path(X, y, [0.1], loss="log_loss", sample_weight=weight, tol=1e-9, **settings)
        reference = LogisticRegression(C=0.1, tol=1e-9, max_iter=5000, **settings).fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(path.coefficients(0)[0], reference.coef_, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(path.coefficients(0)[1] - reference.intercept_, 0.0, atol=1e-5)
