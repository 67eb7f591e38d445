"""Scores and baselines: against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from cnncodes.errors import ProbeError
from cnncodes.probes.folds import make_folds
from cnncodes.probes.intervals import balanced_interval, wilson_interval
from cnncodes.probes.scaling import SCALINGS
from cnncodes.probes.scores import majority_accuracy, neighbour_accuracy, nested_predictions, score, score_shares
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
    for n, trials in ((24, 18), (92, 84.64)):
        y = np.repeat(["a", "b"], [n - 10, 10])
        predicted = np.where(np.arange(n) % 4 == 0, "c", y)
        kept, of_folds = score(y, predicted), score(y, predicted, folds=make_folds(y, cv=2)[0])
        low, _ = wilson_interval(0.75 * trials, trials)
        _, high = wilson_interval(
            (1 - 0.25 * 0.5 ** (0.4 * 0.75)) * trials, trials
        )  # half of the images were learned from
        assert of_folds.accuracy.interval == pytest.approx([low, high])
        assert of_folds.accuracy.value == kept.accuracy.value
        assert of_folds.balanced.value == kept.balanced.value
        assert of_folds.balanced.low < kept.balanced.low < kept.balanced.high < of_folds.balanced.high


def test_upper_end_allows_more_for_a_class_that_lost_more_to_the_folds():
    y = np.repeat(["many", "two"], [50, 2])
    right = np.repeat([1.0, 0.0, 1.0, 0.0], [40, 10, 1, 1])
    folds, _ = make_folds(y, cv=5)
    weight = 1 / (1 + 8 / 52)
    power = 0.4 * 41 / 52
    best_case = np.array([50 - 10 * 0.8**power, 2 - 1 * 0.5**power])  # learned from: 40 of 50 images, 1 of 2
    expected = balanced_interval(best_case * weight, np.array([50, 2]) * weight)[1]
    accuracies = score_shares(y, right, folds=folds)
    assert accuracies.balanced.high == pytest.approx(expected)
    assert accuracies.accuracy.high == pytest.approx(wilson_interval(best_case.sum() * weight, 52 * weight)[1])


def test_images_of_a_group_that_are_right_or_wrong_together_count_for_less():
    y = np.repeat(["a", "b"], 40)
    groups = np.repeat(np.arange(20).astype(str), 4)
    together = np.where(np.arange(20) % 5 == 0, 0.0, 1.0).repeat(4)
    alone, grouped = score_shares(y, together), score_shares(y, together, groups=groups)
    of_groups = score_shares(y[::4], together[::4])  # as if each group were one image
    for name in ("accuracy", "balanced"):
        low, high = getattr(grouped, name).interval
        assert getattr(grouped, name).value == getattr(alone, name).value
        assert [low, high] == pytest.approx(getattr(of_groups, name).interval, abs=0.03)
        assert high - low > 1.7 * (getattr(alone, name).high - getattr(alone, name).low)
    scattered = np.where(np.arange(80) % 4 == 0, 0.0, 1.0)  # one in each group
    ends, as_images = (score_shares(y, scattered, groups=given).accuracy.interval for given in (groups, None))
    assert ends == pytest.approx(as_images, abs=0.01)


@pytest.mark.slow
def test_intervals_hold_for_the_kept_probe_of_few_handwritten_digits():
    X, y = load_digits(return_X_y=True)
    X = X[:, ::3]  # harder
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        counts = rng.permutation([2, 3, 4, 5, 6, 8, 10, 13, 18, 25])
        rows = np.concatenate([rng.choice(np.flatnonzero(y == k), counts[k], replace=False) for k in range(10)])
        probe, search = fit_probe(X[rows], y[rows], C=1.0)
        others = np.setdiff1d(np.arange(len(y)), rows)
        recall = recall_score(y[others], probe.predict(X[others]), average=None)
        accuracies = score(y[rows], search.predictions, folds=search.folds)
        inside.append(
            [
                accuracies.accuracy.low <= recall @ counts / counts.sum() <= accuracies.accuracy.high,
                accuracies.balanced.low <= recall.mean() <= accuracies.balanced.high,
            ]
        )
    assert (np.mean(inside, axis=0) >= 0.9).all()


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
    assert np.mean(honest) == pytest.approx(0.5, abs=0.04)  # two standard errors of 960 answers by chance, and more
    assert np.mean(flattered) > np.mean(honest) + 0.01


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
