"""Label errors: those that cleanlab finds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from cnncodes.insight.label_errors import find_label_errors


@pytest.mark.parametrize("seed", range(5))
def test_suspects_are_those_of_cleanlab(seed: int) -> None:
    filters = pytest.importorskip("cleanlab.filter")
    X, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(X), 500, replace=False)
    given = truth[rows].copy()
    wrong = rng.choice(500, 30, replace=False)
    given[wrong] = (given[wrong] + rng.integers(1, 10, 30)) % 10
    model = LogisticRegression(C=0.001, max_iter=500)
    probabilities = cross_val_predict(model, X[rows], given, cv=3, method="predict_proba")
    expected = filters.find_label_issues(given, probabilities, filter_by="low_self_confidence", n_jobs=1)
    found = find_label_errors(given, probabilities)
    assert sorted(found.tolist()) == np.flatnonzero(expected).tolist()
    own = probabilities[np.arange(500), given]
    assert (np.diff(own[found]) >= 0).all()
    assert np.isin(found, wrong).mean() > 0.5
