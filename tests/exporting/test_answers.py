"""Codes get the answers that `ProbeModel` gives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncodes import ProbeModel
from cnncodes.exporting.answers import add_answers, add_stored
from cnncodes.exporting.graph import Graph, Value
from cnncodes.probes.decision_values import winner

PAIR = ("blue", "red")
VIEWS = (("views", "flip"),)


def some_codes(model: ProbeModel, n: int = 50) -> np.ndarray:
    """Codes like those of images, with a row of zeros."""
    shape = (n, *model.provenance.preprocessing.middle_axis, model.coef.shape[1])
    codes = np.random.default_rng(0).gamma(2, 0.3, shape).astype(np.float32)
    codes[0] = 0
    return codes


def answers_of(
    model: ProbeModel, X: np.ndarray, graph_runner, graph: Graph | None = None, *, small: bool = False
) -> dict[str, np.ndarray]:
    graph = graph or Graph()
    ends = np.cumsum([model.provenance.layers[name].n_features for name in model.layers])
    rows = X.reshape(-1, X.shape[-1])
    parts = dict(zip(("a", "b"), np.split(rows, ends[:-1], axis=1), strict=False))
    values = [Value(graph, name, np.dtype(np.float32)) for name in parts]
    answers = add_answers(graph, values, model, X.shape[1] if X.ndim == 3 else 1, small=small)
    return graph_runner(graph, answers, **parts)(**parts)


def assert_same(model: ProbeModel, graph_runner) -> None:
    X = some_codes(model)
    answers, decision = answers_of(model, X, graph_runner), model.decision_function(X)
    np.testing.assert_allclose(answers["decision"], decision, atol=1e-5 * np.abs(decision).max())
    np.testing.assert_allclose(answers["probabilities"], model.predict_proba(X), atol=1e-5)
    assert answers["label"].tolist() == winner(decision).tolist()
    assert len(set(answers["label"].tolist())) > 1
    novelty = model.novelty(X)
    assert novelty is not None
    np.testing.assert_allclose(answers["novelty"], novelty, atol=1.5 / len(model.familiarity))
    assert np.isclose(answers["novelty"], novelty, atol=1e-6).mean() > 0.9


@pytest.mark.parametrize("scale", ["shrunk", "standard", "l2", "none"])
def test_scalings(scale, make_model, graph_runner):
    assert_same(make_model(scale=scale), graph_runner)


@pytest.mark.parametrize("settings", [{"classes": PAIR}, {"clf": "logreg"}, {"layers": "penultimate"}])
def test_two_classes_logistic_regression_and_one_layer(settings, make_model, graph_runner):
    assert_same(make_model(**settings), graph_runner)


def test_views_are_summed_for_the_decision_and_averaged_for_the_novelty(make_model, graph_runner):
    assert_same(make_model(extracted=VIEWS), graph_runner)


@pytest.mark.parametrize("scale", ["shrunk", "standard"])
def test_model_files_of_older_versions(scale, make_model, graph_runner):
    model = make_model(scale=scale)
    means = np.random.default_rng(1).normal(size=(3, model.coef.shape[1]))
    assert_same(
        replace(model, training_codes=None, class_means=means, familiarity=np.linspace(0, 0.5, 9)), graph_runner
    )
    oldest = replace(model, training_codes=None, class_means=None, familiarity=None)
    assert "novelty" not in answers_of(oldest, some_codes(oldest), graph_runner)


def test_a_column_that_hardly_varies_costs_no_precision(model, graph_runner):
    mean, deviation = model.mean + 0.3, model.deviation.copy()
    deviation[::5] = 1e-7
    assert_same(replace(model, mean=mean, deviation=deviation, coef=model.coef * deviation), graph_runner)


def test_codes_are_rounded_as_they_are_stored(graph_runner):
    codes = np.float32([[0.1, 1 / 3, 70_000.0, -1e-9]])
    graph = Graph()
    stored = add_stored(Value(graph, "codes", np.dtype(np.float32)))
    got = graph_runner(graph, {"stored": stored}, codes=codes)(codes=codes)["stored"]
    assert got.tolist() == [[*codes[0, :2].astype(np.float16).astype(np.float32), 70_000.0, 0.0]]


@pytest.mark.parametrize("scale", ["shrunk", "standard", "l2", "none"])
def test_small_arrays_hardly_change_the_answers(scale, make_model, graph_runner):
    model = make_model(scale=scale)
    X = some_codes(model)
    X = X[np.sort(model.predict_proba(X), axis=1)[:, -2:] @ [-1, 1] > 0.01]  # no class is all but another
    answers, decision = answers_of(model, X, graph_runner, small=True), model.decision_function(X)
    largest = np.abs(decision).max()
    np.testing.assert_allclose(answers["decision"], decision, atol=1e-3 * largest)
    np.testing.assert_allclose(
        answers["probabilities"], model.predict_proba(X), atol=5e-4 * max(1, largest / model.temperature / 10)
    )
    assert answers["label"].tolist() == winner(decision).tolist()
    np.testing.assert_allclose(answers["novelty"], model.novelty(X), atol=2.5 / len(model.familiarity))


def test_small_weights_may_be_of_any_size(make_model, graph_runner):
    model = make_model(scale="none")
    X = some_codes(model)
    for factor in (1e-9, 1e9):
        scaled = replace(model, coef=model.coef * factor, intercept=model.intercept * factor)
        decision = answers_of(scaled, X, graph_runner, small=True)["decision"]
        expected = scaled.decision_function(X)
        np.testing.assert_allclose(decision, expected, atol=1e-3 * np.abs(expected).max())


def test_small_arrays_take_a_byte_for_each_number_of_the_novelty_and_two_for_the_classifier(model, graph_runner):
    graph, k = Graph(), len(model.classes)
    answers_of(model, some_codes(model), graph_runner, graph, small=True)
    d = model.coef.shape[1]
    sizes = [len(one.raw_data) for one in graph.initializers if int(np.prod(one.dims)) >= k * d]
    assert sorted(sizes) == sorted([2 * k * d, k * d, len(model.training_codes) * d])
