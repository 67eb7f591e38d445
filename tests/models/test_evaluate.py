"""Scores: against scipy, scikit-learn and values worked out by hand."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from cnncodes.errors import MissingLibraryError, ProbeError
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.probes.folds import make_folds
from cnncodes.probes.intervals import balanced_interval, wilson_interval
from cnncodes.probes.probe import SCALINGS
from cnncodes.probes.scores import majority_accuracy, neighbour_accuracy, nested_predictions, score
from cnncodes.probes.search import fit_probe


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (10, 10), (1, 2), (90, 100), (8412, 10_000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_interval_is_that_of_scipy(correct, n, confidence):
    expected = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(wilson_interval(correct, n, confidence), [expected.low, expected.high], atol=1e-12)


@pytest.mark.parametrize("n", [50, 300])
def test_interval_contains_the_truth_as_often_as_it_claims(n):
    intervals = np.array([wilson_interval(k, n) for k in range(n + 1)])
    coverage = []
    for p in np.linspace(0.5, 0.98, 49):
        inside = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
        coverage.append(binom.pmf(np.arange(n + 1), n, p)[inside].sum())
    assert 0.94 < np.mean(coverage) < 0.965
    assert min(coverage) > 0.90


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


def test_balanced_interval_of_even_classes_is_nearly_that_of_one_proportion():
    correct, n = np.array([180, 180, 180]), np.array([200, 200, 200])
    np.testing.assert_allclose(balanced_interval(correct, n), wilson_interval(540, 600), atol=2e-3)
    assert balanced_interval(np.array([20, 20]), np.array([20, 20]))[1] == 1.0


@pytest.mark.parametrize("sizes", [(20, 20, 20), (150, 10, 40), (5, 200)])
def test_balanced_interval_contains_the_truth_as_often_as_it_claims(sizes):
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        recalls = rng.uniform(0.5, 0.98, len(sizes))
        low, high = balanced_interval(rng.binomial(sizes, recalls), np.array(sizes))
        inside.append(low <= recalls.mean() <= high)
    assert 0.93 < np.mean(inside) < 0.985


@pytest.mark.parametrize("scale", ["standard", "l2", "none"])
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
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(48, 60)), rng.permutation(["a", "b"] * 24)
        _, search = fit_probe(X, y, cv=4, seed=seed)
        flattered.append(np.mean(search.predictions == y))
        honest.append(np.mean(nested_predictions(X, y, search.folds, cv=4, seed=seed) == y))
    assert np.mean(honest) < 0.52 < np.mean(flattered)
    assert np.mean(flattered) - np.mean(honest) > 0.03


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


# ----------------------------------------------------------------------------------------------------------- the result


@pytest.fixture
def result() -> EvaluationResult:
    return EvaluationResult(
        y=np.array(["ant", "ant", "ant", "bee", "bee", "wasp"]),
        predicted=np.array(["ant", "ant", "bee", "bee", "ant", "bee"]),
        classes=["ant", "bee", "moth", "wasp"],
        baseline_accuracy=0.5,
        about={"clf": "svm", "layers": ["layer3"], "C": 0.1},
        seconds=0.25,
        notes=["a note"],
    )


def test_confusion_has_a_row_for_each_true_class(result):
    assert result.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_precision_and_recall_of_each_class(result):
    figures = result.per_class
    assert figures["ant"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "n": 3})
    assert figures["bee"] == pytest.approx({"precision": 1 / 3, "recall": 1 / 2, "f1": 0.4, "n": 2})
    assert figures["moth"] == {"precision": 0, "recall": 0, "f1": 0, "n": 0}
    assert figures["wasp"] == {"precision": 0, "recall": 0, "f1": 0, "n": 1}


def test_result_as_json_has_the_keys_scripts_rely_on(result):
    about = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    promised = {"n", "classes", "clf", "layers", "C", "test_accuracy", "test_interval", "baseline_accuracy", "seconds"}
    assert promised <= about.keys()
    assert about["n"] == 6
    assert about["test_accuracy"] == 0.5
    assert about["test_balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert about["confusion"][0] == [2, 1, 0, 0]


def test_result_as_frame_has_a_row_for_each_class(result):
    frame = result.to_frame()
    assert frame.index.tolist() == result.classes
    assert frame.loc["bee", "recall"] == 0.5
    assert frame["n"].tolist() == [3, 2, 0, 1]


def test_missing_pandas_is_named_with_the_way_out(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match=r"to_frame needs pandas: pip install 'cnncodes\[notebook\]'"):
        result.to_frame()


def result_of_three() -> EvaluationResult:
    y = np.array(["<i>", "<i>", "<i>", "b", "b", "$c$"])
    predicted = np.array(["<i>", "<i>", "b", "b", "b", "b"])
    return EvaluationResult(y, predicted, ["$c$", "<i>", "b"], 0.5, {"clf": "svm", "layers": ["layer3"], "C": 1.0}, 0.1)


def test_the_plot_of_an_evaluation_is_its_confusion_matrix():
    from matplotlib.figure import Figure

    ax = result_of_three().plot(Figure().subplots())
    expected = np.array([[0, 0, 1], [0, 2 / 3, 1 / 3], [0, 0, 1]])
    np.testing.assert_allclose(ax.get_images()[0].get_array(), expected)
    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    assert written == {(0, 2): "1", (1, 1): "2", (1, 2): "1", (2, 2): "2"}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["$c$", "<i>", "b"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    ax.figure.savefig(io.BytesIO())  # a dollar sign begins no formula


def test_an_evaluation_shows_itself_in_a_notebook_escaped():
    shown = result_of_three()._repr_html_()
    assert "Accuracy 66.7 % (30.0 to 90.3 %) of 6 images" in shown
    assert "<th>&lt;i&gt;</th><td>1.000</td><td>0.667</td><td>0.800</td><td>3</td>" in shown
    assert "<i>" not in shown
