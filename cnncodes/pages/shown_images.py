"""Chooses which images of many a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnncodes.pages.answers import Answers

__all__ = ["ShownImages", "choose_images"]

MIN_IMAGES_OF_A_CELL = 12  # a cell of the confusion matrix shows at least so many of its images
MAX_IMAGES_OFF_THE_MAP = 1000


class ShownImages(NamedTuple):
    """Rows of a codes file, ascending."""

    rows: np.ndarray  # all that are shown
    mapped: np.ndarray  # those that are on the map: a fair sample


def choose_images(rows: np.ndarray, answers: Answers, wanted: Sequence[int], points: int, seed: int) -> ShownImages:
    """Choose the images of the map at random, and beside them what other parts of the page show.

    Parameters
    ----------
    rows : ndarray of int
        Rows of all labelled images.
    answers : Answers
    wanted : sequence of int
        Rows that are shown in any case, if they are labelled.
    points : int
        Images on the map, at most.
    seed : int
        Seed of the choice for the map.
    """
    if len(rows) <= points:
        return ShownImages(rows, rows)
    mapped = np.sort(np.random.default_rng(seed).choice(rows, points, replace=False))
    extra = np.intersect1d(list(dict.fromkeys([*wanted, *_of_cells(answers)]))[:MAX_IMAGES_OFF_THE_MAP], rows)
    return ShownImages(np.union1d(mapped, extra).astype(int), mapped)


def _of_cells(answers: Answers) -> list[int]:
    """Return the surest images of each cell of the confusion matrix, mistakes first."""
    y, predicted = answers.result.y, answers.result.predicted
    surest = np.argsort(-answers.confidence, kind="stable")
    surest = surest[np.argsort((y == predicted)[surest], kind="stable")]
    cells: dict[tuple[str, str], list[int]] = {}
    for at in surest.tolist():
        cell = cells.setdefault((y[at], predicted[at]), [])
        if len(cell) < MIN_IMAGES_OF_A_CELL:
            cell.append(int(answers.rows[at]))
    return [row for cell in cells.values() for row in cell]
