"""Scores and baselines: against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from cnncodes.errors import ProbeError
from cnncodes.probes.folds import make_folds
from cnncodes.probes.intervals import wilson_interval
from cnncodes.probes.scaling import SCALINGS
from cnncodes.probes.scores import majority_accuracy, neighbour_accuracy, nested_predictions, score
from cnncodes.probes.search import fit_probe


def test_score_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "long name"], 200, p=[0.7, 0.2, 0.1])
    predicted = np.where(rng.random(200) < 0.6, y, "a")
    accuracies = score(y, predicted)
    assert accuracies.accuracy.value == pytest.approx(accuracy_score(y, predicted))
    assert accuracies.balanced.value == pytest.approx(balanced_accuracy_score(y, predicted))
    assert accuracies.accuracy.interval == list(wilson_interval(int(np.sum(y == predicted)), 200))


def test_out_of_fold_answers_count_for_less_the_fewer_there_are():
    for n, trials in ((20, 16), (95, 90.25)):
        y = np.repeat(["a", "b"], [n - 10, 10])
        predicted = np.where(np.arange(n) % 5 == 0, "c", y)
        kept, folds = score(y, predicted), score(y, predicted, out_of_fold=True)
        assert folds.accuracy.interval == pytest.approx(wilson_interval(0.8 * trials, trials))
        assert folds.accuracy.value == kept.accuracy.value
        assert folds.balanced.value == kept.balanced.value
        widths = [accuracies.balanced.high - accuracies.balanced.low for accuracies in (kept, folds)]
        assert 1 < widths[1] / widths[0] < np.sqrt(n / trials) + 0.01


@pytest.mark.parametrize("scale", SCALINGS)
def test_neighbour_accuracy_is_that_of_a_plain_loop(scale):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)) * [1, 5, 1, 1], rng.choice(["a", "b"], 60)
    X[y == "b"] += [2.0, 0, 0, 0]
    folds, _ = make_folds(y, cv=3)
    right = []
    for train, test in folds:
        scaler = SCALINGS[scale]().fit(X[train])
        inside, outside = scaler.transform(X[train]), scaler.transform(X[test])
        nearest = ((outside[:, None] - inside) ** 2).sum(axis=2).argmin(axis=1)
        right += (y[train][nearest] == y[test]).tolist()
    assert 0.5 < neighbour_accuracy(X, y, folds, scale=scale) == np.mean(right)


def test_nested_predictions_never_see_the_fold_that_they_are_for():
    """Labels by chance: the choice of C on the same folds flatters, the nested estimate does not."""
    flattered, honest = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(48, 60)), rng.permutation(["a", "b"] * 24)
        _, search = fit_probe(X, y, cv=4, seed=seed)
        flattered.append(np.mean(search.predictions == y))
        honest.append(np.mean(nested_predictions(X, y, search.folds, cv=4, seed=seed) == y))
    assert 0.45 < np.mean(honest) < 0.505 < np.mean(flattered)


def test_nested_predictions_are_those_of_probes_fitted_to_the_rest():
    rng = np.random.default_rng(0)
    y = np.array(["a", "b", "c"] * 20)
    X = rng.normal(size=(60, 5)) + 0.8 * np.eye(3, 5)[np.unique(y, return_inverse=True)[1]]
    folds, _ = make_folds(y, cv=3)
    nested = nested_predictions(X, y, folds, clf="logreg", cv=3)
    for train, test in folds:
        probe, _ = fit_probe(X[train], y[train], clf="logreg", cv=3)
        assert nested[test].tolist() == probe.predict(X[test]).tolist()
    notes: list[str] = []
    nested_predictions(X, y, folds, notes=notes, cv=30, C=0.01)
    assert notes == [f"in the nested estimate: 13 folds instead of 30: the class '{k}' has 13 images" for k in "ab"]
    with pytest.raises(ProbeError, match="the nested estimate needs more images"):
        nested_predictions(X[:6], y[:6], make_folds(y[:6], cv=2)[0])


def test_majority_answers_the_most_frequent_class():
    assert majority_accuracy(np.array(["a", "b", "b", "c"])) == 0.5
