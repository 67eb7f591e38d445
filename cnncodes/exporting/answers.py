"""From codes to answers, as operators: scaling, classifier, probabilities, novelty, as `ProbeModel` has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnncodes.exporting.graph import Graph, Value
from cnncodes.models.model import ProbeModel
from cnncodes.neighbours.nearest import unit_rows
from cnncodes.probes.novelty import NEIGHBOUR_WEIGHT, NEIGHBOURS

__all__ = ["add_answers", "add_classifier", "add_stored", "joined", "lengths"]

TINY = float(np.finfo(np.float32).tiny)  # rows of zeros stay zeros
INT8_STEPS = 127  # from 0 to the largest number of 8 bits


def add_stored(codes: Value) -> Value:
    """Round codes to float16, as they are stored; one that is too large stays as it is."""
    graph = codes.graph
    rounded = codes.to(np.float16).to(np.float32)
    return graph.op("IsInf", rounded, dtype=bool).where(codes, rounded, np.float32)


def add_answers(
    graph: Graph, codes: Sequence[Value], model: ProbeModel, n_views: int, *, small: bool = False
) -> dict[str, Value]:
    """Add what `ProbeModel` does with codes.

    Parameters
    ----------
    graph : Graph
    codes : sequence of Value of float32, shape (n * n_views, n_features)
        The codes of each layer of the model.
    model : ProbeModel
    n_views : int
    small : bool, default=False
        Keep the classifier in float16, and what novelty is read from in 8 bits; computing stays in float32.

    Returns
    -------
    dict of str to Value
        ``label`` (n,), ``probabilities`` (n, n_classes), ``decision`` (n, k), and ``novelty`` (n,) if the model has it.
    """
    scaled = _scaled(graph, codes, model)
    decision = scaled @ add_classifier(graph, model, small=small) + model.intercept.astype(np.float32)
    decision = _over_views(decision, n_views, "ReduceSum")
    sides = decision
    if len(model.coef) == 1:
        sides = graph.op("Concat", decision * -0.5, decision * 0.5, axis=1)
    answers = {
        "label": graph.op("ArgMax", sides, axis=1, keepdims=0, dtype=np.int64),
        "probabilities": graph.op("Softmax", sides / model.temperature, axis=1),
        "decision": decision,
    }
    if model.class_means is None or model.familiarity is None:
        return answers
    closeness = _closeness(graph, codes, scaled, model, n_views, small)
    familiar = closeness.shaped(-1, 1) < model.familiarity.astype(np.float32)
    more = graph.op("ReduceSum", familiar.to(np.float32), np.array([1]), keepdims=0)
    return answers | {"novelty": more / float(len(model.familiarity) + 1)}


def add_classifier(graph: Graph, model: ProbeModel, *, small: bool) -> Value:
    """Return the weights of the classifier for codes that are not divided by deviations, shape (n_features, k)."""
    weights = (model.coef / model.deviation).T.astype(np.float32)
    if not small:
        return graph.constant(weights)
    scales = np.maximum(np.abs(weights).max(axis=0), TINY)  # float16 holds no number above 65,504
    return graph.constant((weights / scales).astype(np.float16)).to(np.float32) * scales


def _cosines(rows: Value, units: np.ndarray, *, small: bool) -> Value:
    """Return the cosines of rows of length 1 to those of an array."""
    graph, columns = rows.graph, np.ascontiguousarray(units.T)
    if not small:
        return rows @ graph.constant(columns).to(np.float32)
    steps = np.maximum(np.abs(columns).max(axis=0), TINY).astype(np.float32) / INT8_STEPS
    rounded = np.round(columns / steps).astype(np.int8)
    return rows @ graph.constant(rounded).to(np.float32) * steps


def _scaled(graph: Graph, codes: Sequence[Value], model: ProbeModel) -> Value:
    """Return codes as the classifier takes them but for the division by deviations, which its weights hold."""
    if model.scale == "shrunk":
        return joined(graph, [_unit_rows(one) for one in codes]) - model.mean.astype(np.float32)
    rows = joined(graph, codes)
    if model.scale == "l2":
        return _unit_rows(rows)
    return rows - model.mean.astype(np.float32) if model.mean.any() else rows


def _closeness(
    graph: Graph, codes: Sequence[Value], scaled: Value, model: ProbeModel, n_views: int, small: bool
) -> Value:
    """Return what novelty is read from, as `cnncodes.probes.novelty.closeness` computes it."""
    means = model.class_means
    assert means is not None
    if model.training_codes is None:  # an older model file
        rows = _over_views(scaled / model.deviation.astype(np.float32), n_views, "ReduceMean")
        return _cosine_to_nearest(rows, means, small)
    unit = _unit_rows(_over_views(joined(graph, codes), n_views, "ReduceMean"))
    cosines = _cosines(unit, model.training_codes, small=small)
    k = min(NEIGHBOURS, len(model.training_codes))
    largest, _ = graph.op_outputs("TopK", [cosines.name, graph.constant(np.array([k])).name], 2, axis=1)
    nearest = graph.op("ReduceMean", Value(graph, largest, np.dtype(np.float32)), np.array([1]), keepdims=0)
    mixed = nearest * NEIGHBOUR_WEIGHT + _cosine_to_nearest(unit, means, small) * (1 - NEIGHBOUR_WEIGHT)
    return graph.op("Clip", mixed, -1.0, 1.0)


def _cosine_to_nearest(rows: Value, means: np.ndarray, small: bool) -> Value:
    middle = means.mean(axis=0)
    directions = unit_rows(means - middle).astype(np.float32)
    cosines = _cosines(_unit_rows(rows - middle.astype(np.float32)), directions, small=small)
    return rows.graph.op("Clip", rows.graph.op("ReduceMax", cosines, np.array([1]), keepdims=0), -1.0, 1.0)


def lengths(rows: Value) -> Value:
    """Return the length of each row, or a tiny number instead of 0, shape (n, 1)."""
    return rows.graph.op("Max", rows.graph.op("ReduceL2", rows, np.array([1]), keepdims=1), TINY)


def _unit_rows(rows: Value) -> Value:
    return rows / lengths(rows)


def joined(graph: Graph, codes: Sequence[Value]) -> Value:
    """Return codes of several layers side by side."""
    return codes[0] if len(codes) == 1 else graph.op("Concat", *codes, axis=1)


def _over_views(rows: Value, n_views: int, operator: str) -> Value:
    """Return one row for an image of rows of its views."""
    if n_views == 1:
        return rows
    graph = rows.graph
    shape = graph.op("Shape", rows, dtype=np.int64)
    width = graph.op("Slice", shape, np.array([1]), np.array([2]))
    grouped = graph.op("Concat", graph.constant(np.array([-1, n_views])), width, axis=0)
    return graph.op(operator, graph.op("Reshape", rows, grouped), np.array([1]), keepdims=0)
