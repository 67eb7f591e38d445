"""Intervals: those of scipy, and they hold the truth as often as they claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from cnncodes.probes.intervals import balanced_interval, wilson_interval


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (10, 10), (1, 2), (90, 100), (8412, 10_000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_interval_is_that_of_scipy(correct, n, confidence):
    expected = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(wilson_interval(correct, n, confidence), [expected.low, expected.high], atol=1e-12)


@pytest.mark.parametrize("n", [50, 300])
def test_interval_contains_the_truth_as_often_as_it_claims(n):
    intervals = np.array([wilson_interval(k, n) for k in range(n + 1)])
    coverage = []
    for p in np.linspace(0.5, 0.98, 49):
        inside = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
        coverage.append(binom.pmf(np.arange(n + 1), n, p)[inside].sum())
    assert 0.94 < np.mean(coverage) < 0.965
    assert min(coverage) > 0.90


def test_balanced_interval_of_even_classes_is_nearly_that_of_one_proportion():
    correct, n = np.array([180, 180, 180]), np.array([200, 200, 200])
    np.testing.assert_allclose(balanced_interval(correct, n), wilson_interval(540, 600), atol=2e-3)
    assert balanced_interval(np.array([20, 20]), np.array([20, 20]))[1] == 1.0


@pytest.mark.parametrize("sizes", [(20, 20, 20), (150, 10, 40), (5, 200)])
def test_balanced_interval_contains_the_truth_as_often_as_it_claims(sizes):
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        recalls = rng.uniform(0.5, 0.98, len(sizes))
        low, high = balanced_interval(rng.binomial(sizes, recalls), np.array(sizes))
        inside.append(low <= recalls.mean() <= high)
    assert 0.93 < np.mean(inside) < 0.985
