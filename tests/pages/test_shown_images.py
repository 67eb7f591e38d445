"""Which images a page shows: a fair sample on the map, and some of each cell."""

from __future__ import annotations

import numpy as np
import pytest
from report_parts import answers_of

from cnncodes.pages.shown_images import MIN_IMAGES_PER_CELL, choose_images


def test_the_map_is_a_fair_sample_and_each_cell_has_its_images() -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "c"], 5000, p=[0.6, 0.39, 0.01])
    predicted = np.where(rng.random(5000) < 0.98, y, rng.choice(["a", "b", "c"], 5000))
    answers = answers_of(y, predicted, np.arange(5000), rng.random(5000))
    chosen = choose_images(np.arange(5000), answers, [4999], 400, 0)
    assert len(chosen.map_rows) == 400
    assert set(chosen.map_rows) < set(chosen.rows)
    assert 4999 in chosen.rows
    assert np.mean(y[chosen.map_rows] == "a") == pytest.approx(0.6, abs=0.08)
    assert np.mean((y != predicted)[chosen.map_rows]) < 0.04
    for label in "abc":
        for answer in "abc":
            cell = np.flatnonzero((y == label) & (predicted == answer))
            surest = cell[np.argsort(-answers.confidence[cell])][:MIN_IMAGES_PER_CELL]
            assert set(surest) <= set(chosen.rows)
    few = choose_images(np.arange(300), answers, [], 400, 0)
    assert len(few.rows) == len(few.map_rows) == 300
