"""Which values of C are tried, and which of them is the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cnncodes.probes.coarse_to_fine import Trials

GRID = np.logspace(-6, 5, 45)
N = 400


class Curve:
    """Probes of two classes whose share of right answers depends on the place of C alone."""

    def __init__(self, right: np.ndarray, *, at_once: int = 1, first_folds: int = 5, stride: int = 4) -> None:
        self.right, self.at_once, self.first_folds, self.stride, self.rough = right, at_once, first_folds, stride, True
        self.calls: list[tuple[list[int], bool, int]] = []

    def decide(self, Cs: Sequence[float], *, exact: bool, n_folds: int) -> tuple[np.ndarray, np.ndarray]:
        places = [int(np.argmin(np.abs(np.log(GRID / C)))) for C in Cs]
        self.calls.append((places, exact, n_folds))
        order = np.arange(N) // 5 / (N / 5)  # each fold has answers of every kind
        signs = np.where(np.arange(N) // 5 % 2 == 1, 1.0, -1.0)
        decision = np.stack([np.where(order < self.right[place], signs, -signs) for place in places])
        return decision[..., None], np.ones((5, len(Cs)), bool)


def trials_of(curve: Curve) -> Trials:
    y = np.where(np.arange(N) // 5 % 2 == 1, "b", "a")
    folds = [(np.flatnonzero(np.arange(N) % 5 != i), np.flatnonzero(np.arange(N) % 5 == i)) for i in range(5)]
    return Trials(curve, GRID, y, folds)


def peak(at: int) -> np.ndarray:
    return 0.95 - 0.02 * np.abs(np.arange(45) - at)


@pytest.mark.parametrize("at", [0, 1, 7, 18, 30, 43, 44])
@pytest.mark.parametrize("ways", [{}, {"at_once": 6}, {"first_folds": 1}, {"stride": 2}])
def test_the_best_of_all_is_found_with_a_few(at, ways):
    curve = Curve(peak(at), **ways)
    trials = trials_of(curve)
    assert trials.search(one_se=False) == at
    assert {place for place in (at - 1, at, at + 1) if 0 <= place < 45} <= set(trials.tried)
    assert len(trials.tried) <= 26
    assert trials.accuracy.shape == trials.converged.shape == (5, len(trials.tried))
    np.testing.assert_allclose(trials.accuracy[:, trials.tried.index(at)], 0.95, atol=0.02)


def test_values_that_are_as_good_end_nothing():
    curve = Curve(np.where(np.arange(45) < 30, 0.6, 0.9))
    assert trials_of(curve).search(one_se=False) == 30


@pytest.mark.parametrize(("usual", "best"), [(1.0, 24), (1e-5, 13), (1e5, 35), (10**0.6, 26)])
def test_on_a_plateau_the_usual_value_is_chosen(usual: float, best: int) -> None:
    places = np.arange(45)
    curve = Curve(np.where((places >= 13) & (places <= 35), 0.95, 0.6))
    trials = Trials(curve, GRID, trials_of(curve).y, trials_of(curve).folds, usual_C=usual)
    assert trials.search(one_se=False) == best


def test_values_far_beyond_the_best_are_left_out():
    trials = trials_of(Curve(peak(9)))
    trials.search(one_se=False)
    assert max(trials.tried) == 12


def test_a_first_look_takes_the_first_folds_only():
    curve = Curve(peak(16), first_folds=1)
    trials = trials_of(curve)
    trials.search(one_se=False)
    coarse = [places for places, _, n_folds in curve.calls if n_folds == 1]
    assert coarse == [[0], [4], [8], [12], [16], [20]]
    assert trials.tried == [14, 15, 16, 17, 18]


def test_one_standard_error_looks_next_to_the_most_regularised():
    trials = trials_of(Curve(peak(30)))
    best = trials.search(one_se=True)
    tried, means = np.array(trials.tried), trials.accuracy.mean(axis=0)
    error = trials.accuracy[:, means.argmax()].std(ddof=1) / np.sqrt(5)
    assert best == tried[means >= means.max() - error].min()
    assert best - 1 in trials.tried


def test_a_few_values_are_all_tried_and_one_at_once_exactly():
    curve = Curve(peak(2))
    trials = Trials(curve, GRID[:6], trials_of(curve).y, trials_of(curve).folds)
    assert trials.search(one_se=False) == 2
    assert curve.calls == [([0, 1, 2, 3, 4, 5], False, 5)]
    curve.calls.clear()
    trials = Trials(curve, GRID[3:4], trials.y, trials.folds)
    assert trials.search(one_se=False) == 0
    assert [exact for _, exact, _ in curve.calls] == [True]
    curve.calls.clear()
    trials = Trials(curve, GRID[3:4], trials.y, trials.folds)
    trials.decision(trials.search(one_se=False, exact=False), exact=False)
    assert [exact for _, exact, _ in curve.calls] == [False]


def test_the_decision_that_is_kept_is_exact():
    curve = Curve(peak(18))
    trials = trials_of(curve)
    best = trials.search(one_se=False)
    before = len(curve.calls)
    decision = trials.decision(best, exact=True)
    assert curve.calls[before:] == [([18], True, 5)]
    assert decision.shape == (N, 1)
    curve.rough = False
    trials.decision(best, exact=True)
    assert len(curve.calls) == before + 1
