"""Chooses the images that a page shows, if there are too many for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnncodes.pages.answers import Answers

__all__ = ["ShownImages", "choose_images"]

MIN_IMAGES_PER_CELL = 12  # a cell of the confusion matrix shows at least this many of its images
MAX_IMAGES_OFF_THE_MAP = 1000


class ShownImages(NamedTuple):
    """The images that a page shows, as ascending rows of the codes file."""

    rows: np.ndarray  # all of them
    map_rows: np.ndarray  # those on the map: a random sample


def choose_images(
    rows: np.ndarray, answers: Answers, section_rows: Sequence[int], points: int, seed: int
) -> ShownImages:
    """Choose the images of the map at random, and add those that other parts of the page show.

    Parameters
    ----------
    rows : ndarray of int
        Rows of all labelled images.
    answers : Answers
    section_rows : sequence of int
        Rows that sections of the page show; they are chosen, too, if they are labelled.
    points : int
        Largest number of images on the map.
    seed : int
        Seed of the choice for the map.
    """
    if len(rows) <= points:
        return ShownImages(rows, rows)
    map_rows = np.sort(np.random.default_rng(seed).choice(rows, points, replace=False))
    extra_rows = list(dict.fromkeys([*section_rows, *_rows_of_cells(answers)]))[:MAX_IMAGES_OFF_THE_MAP]
    return ShownImages(np.union1d(map_rows, np.intersect1d(extra_rows, rows)).astype(int), map_rows)


def _rows_of_cells(answers: Answers) -> list[int]:
    """Return the rows of the surest images of each cell of the confusion matrix, mistakes first."""
    y, predicted = answers.result.y, answers.result.predicted
    surest = np.argsort(-answers.confidence, kind="stable")
    surest = surest[np.argsort((y == predicted)[surest], kind="stable")]
    cells: dict[tuple[str, str], list[int]] = {}
    for position in surest.tolist():
        cell = cells.setdefault((y[position], predicted[position]), [])
        if len(cell) < MIN_IMAGES_PER_CELL:
            cell.append(int(answers.rows[position]))
    return [row for cell in cells.values() for row in cell]
