"""Operators are written as they are meant."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.exporting.graph import Graph, Value


@pytest.fixture
def x() -> Value:
    return Value(Graph(), "x", np.dtype(np.float32))


X = np.float32([[1, -2], [4, 0.5]])


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda x: x + 1, X + 1),
        (lambda x: x - 1.5, X - 1.5),
        (lambda x: 2 - x, 2 - X),
        (lambda x: x * x, X * X),
        (lambda x: x / 2, X / 2),
        (lambda x: x @ np.float32([[1], [2]]), X @ np.float32([[1], [2]])),
        (lambda x: x < 1, X < 1),
        (lambda x: x > 1, X > 1),
        (lambda x: (x >= 1) & (x < 4), (X >= 1) & (X < 4)),
        (lambda x: x.to(np.int64) / 2, np.int64([[0, -1], [2, 0]])),
        (lambda x: (x > 0).where(x, 7, np.float32), np.where(X > 0, X, 7)),
        (lambda x: x.shaped(-1), X.ravel()),
        (lambda x: x.graph.op("Max", x, 0.75), np.maximum(X, 0.75)),
    ],
)
def test_arithmetic(operation, expected, x, graph_runner):
    y = operation(x)
    got = graph_runner(x.graph, {"y": y}, x=X)(x=X)["y"]
    assert got.dtype == y.dtype
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize(("condition", "expected"), [(True, 3.0), (False, -1.0)])
def test_only_one_branch_counts(condition, expected, x, graph_runner):
    graph = x.graph
    y = graph.either(graph.constant(np.array(condition)), lambda: x + 2.0, lambda: x - 2.0)
    assert graph_runner(graph, {"y": y}, x=X[0])(x=np.float32([1]))["y"].tolist() == [expected]
    assert [node.op_type for node in graph.nodes] == ["If"], "the operators of the branches are inside of them"


def test_equal_constants_are_kept_once(x):
    y = (x + 1.0) * 1.0 + np.float32(1)
    assert y.dtype == np.float32
    assert len(x.graph.initializers) == 1
    x.graph.constant(np.float64(1))
    assert len(x.graph.initializers) == 2, "another type is another constant"
