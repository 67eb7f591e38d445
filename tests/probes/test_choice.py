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
    truth = np.repeat([0, 1], 50)
    sides = np.where(truth == 1, 1.0, -1.0)
    wrong = np.arange(100) % 10 == 0  # the same ten for both, so that both get 90 of 100 right
    unsure, sure = np.where(wrong, 0.1, 2.0), np.full(100, 2.0)
    signs = np.where(wrong, -sides, sides)
    bad = -sides  # surely wrong everywhere
    decision = np.stack([bad, signs * sure, signs * unsure])[..., None]
    assert best_probabilities(decision, truth) == 2
    assert best_probabilities(decision[[0, 2, 1]], truth) == 1


@pytest.mark.parametrize(
    ("means", "best", "end"),
    [
        ([0.9, 0.8, 0.7, 0.6], 0, "a wider one may do better"),
        ([0.9, 0.9, 0.9, 0.6], 0, "the accuracy no longer changes towards it"),
        ([0.6, 0.7, 0.8, 0.9], 3, "a wider one may do better"),
        ([0.6, 0.9, 0.8, 0.7], 1, None),
        ([1.0, 0.9, 0.8, 0.7], 0, None),
        ([0.9], 0, None),
    ],
)
def test_a_chosen_value_at_the_edge_of_the_grid_is_noted(means: list[float], best: int, end: str | None) -> None:
    Cs = 10.0 ** np.arange(len(means))
    expected = [] if end is None else [f"the best C, {Cs[best]:g}, lies at the edge of the grid; {end}"]
    assert edge_notes(Cs, np.array([means, means]), best) == expected
