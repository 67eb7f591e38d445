"""The choice of C: close accuracies are decided by probabilities, and an edge of the grid is noted."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.probes.choice import best_probabilities, edge_notes, most_regularised


def test_the_most_regularised_is_within_a_standard_error_of_the_best() -> None:
    accuracy = np.array([[0.5, 0.78, 0.8, 0.7], [0.5, 0.82, 0.9, 0.7]])
    # The best is 0.85, with a standard error of 0.05: 0.80 is just within it.
    assert most_regularised(accuracy) == 1
    accuracy[:, 1] -= 0.01
    assert most_regularised(accuracy) == 2


def test_probabilities_decide_among_values_of_C_that_are_as_accurate() -> None:
    accuracy, brier = np.array([0.1, 0.9, 0.87, 0.86]), np.array([0.01, 0.4, 0.2, 0.1])
    # The standard error of 0.9 is 0.03 for 100 images: 0.87 is just within it, and 0.86 is not.
    decades = np.arange(4.0)
    assert best_probabilities(accuracy, brier, 100, decades) == 2
    assert best_probabilities(accuracy, brier, 50, decades) == 3
    assert best_probabilities(accuracy, brier, 10_000, decades) == 1


@pytest.mark.parametrize(("decades", "chosen"), [([-3, -2, -1, 0], 2), ([0, 1, 2, 3], 1), ([-1.5, -0.5, 0.5, 1.5], 1)])
def test_where_scores_are_alike_the_usual_C_is_chosen(decades: list[float], chosen: int) -> None:
    accuracy, brier = np.full(4, 0.9), np.array([0.30, 0.201, 0.2, 0.203])
    assert best_probabilities(accuracy, brier, 100, np.array(decades)) == chosen  # alike within a hundredth
    assert best_probabilities(accuracy, brier, 50, np.array([-3, -2, -1, 0])) == 3
    assert best_probabilities(accuracy, brier, 10_000, np.array(decades)) == 2


@pytest.mark.parametrize(
    ("means", "best", "end"),
    [
        ([0.9, 0.8, 0.7, 0.6], 0, "a wider one may do better"),
        ([0.9, 0.9, 0.9, 0.6], 0, None),
        ([0.6, 0.7, 0.8, 0.9], 3, "a wider one may do better"),
        ([0.6, 0.9, 0.8, 0.7], 1, None),
        ([1.0, 0.9, 0.8, 0.7], 0, None),
        ([0.9], 0, None),
    ],
)
def test_a_chosen_value_at_the_edge_of_the_grid_is_noted(means: list[float], best: int, end: str | None) -> None:
    Cs = 10.0 ** np.arange(len(means))
    expected = [] if end is None else [f"the best C, {Cs[best]:g}, lies at the edge of the grid; {end}"]
    assert edge_notes(Cs, Cs, np.array([means, means]), best) == expected


def test_a_value_next_to_which_others_were_left_out_is_at_no_edge() -> None:
    grid, accuracy = 10.0 ** np.arange(6), np.array([[0.6, 0.7, 0.8, 0.9]])
    assert edge_notes(grid, grid[:4], accuracy, 3) == []
    assert edge_notes(grid, grid[2:], accuracy, 3) != []
    assert edge_notes(grid, grid[2:], accuracy[:, ::-1], 0) == []
