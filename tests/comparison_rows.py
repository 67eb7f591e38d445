"""Rows of a comparison, made up."""

from __future__ import annotations

from typing import Any

from cnncodes.insight.comparison import Comparison, Row
from cnncodes.probes.estimate import Accuracies, Estimate


def made_up_row(layers: list[str], accuracy: float = 0.5, **fields: Any) -> Row:
    estimate = Estimate(accuracy, accuracy - 0.1, accuracy + 0.1)
    usual: dict[str, Any] = {
        "codes": "codes.h5",
        "backbone": "tiny",
        "pooling": "avg",
        "depth": 0,
        "n": 400,
        "classes": ["a", "b"],
        "n_features": 8,
        "baseline_accuracy": 0.5,
        "clf": "svm",
        "scale": "shrunk",
        "C": 0.1,
        "log_loss": 0.5,
        "repeats": 1,
        "seconds": 1.0,
    }
    return Row(layers=layers, cross_validated=Accuracies(estimate, estimate), **{**usual, **fields})


def row_of(comparison: Comparison, *layers: str) -> Row:
    (row,) = (row for row in comparison.rows if row.layers == list(layers) and row.clf in ("svm", "logreg"))
    return row
