"""Chooses which images of many a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnncodes.pages.answers import Answers

__all__ = ["Chosen", "choose"]

OF_A_CELL = 12  # images of a cell of the confusion matrix that are there in any case
MOST_EXTRA = 1000  # images beyond those of the map


class Chosen(NamedTuple):
    """Rows of a codes file, ascending."""

    rows: np.ndarray  # all that are shown
    mapped: np.ndarray  # those that are on the map: a fair sample


def choose(rows: np.ndarray, answers: Answers, wanted: Sequence[int], points: int, seed: int) -> Chosen:
    """Choose the images of the map at random, and beside them what other parts of the page show.

    Parameters
    ----------
    rows : ndarray of int
        Of all labelled images.
    answers : Answers
    wanted : sequence of int
        Rows that are shown in any case, if they are labelled.
    points : int
        Of the map.
    seed : int
    """
    if len(rows) <= points:
        return Chosen(rows, rows)
    mapped = np.sort(np.random.default_rng(seed).choice(rows, points, replace=False))
    extra = np.intersect1d(list(dict.fromkeys([*wanted, *_of_cells(answers)]))[:MOST_EXTRA], rows)
    return Chosen(np.union1d(mapped, extra).astype(int), mapped)


def _of_cells(answers: Answers) -> list[int]:
    """Return the surest images of each cell of the confusion matrix, mistakes first."""
    y, predicted = answers.result.y, answers.result.predicted
    surest = np.argsort(-answers.confidence, kind="stable")
    surest = surest[np.argsort((y == predicted)[surest], kind="stable")]
    found: dict[tuple[str, str], list[int]] = {}
    for at in surest.tolist():
        cell = found.setdefault((y[at], predicted[at]), [])
        if len(cell) < OF_A_CELL:
            cell.append(int(answers.rows[at]))
    return [row for cell in found.values() for row in cell]
