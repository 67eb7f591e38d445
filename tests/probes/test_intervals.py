"""Intervals: those of scipy, and they hold the truth as often as they claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, t

from cnncodes.probes.intervals import balanced_interval, design_effect, paired_interval, wilson_interval


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


def alike(n_groups: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return groups, and two classifiers' answers, of which each group has its own chance to be right."""
    chances = rng.beta(1.6, 0.4, n_groups)  # 0.8 in the mean; two images of a group correlate by 1/3
    groups = np.repeat(np.arange(n_groups).astype(str), size)
    a, b = (rng.random(n_groups * size) < np.repeat(chances, size) for _ in range(2))
    return groups, a.astype(float), b.astype(float)


def test_design_effect_is_that_of_a_loop_over_groups():
    rng = np.random.default_rng(0)
    groups = np.array(["a"] * 7 + ["b"] * 3 + ["c"] * 5 + ["", ""])
    right = rng.random(17) + np.repeat([0.5, -0.5, 0.0, 0.5], [7, 3, 5, 2])
    deviations = right - right.mean()
    parts = [deviations[groups == name] for name in "abc"] + [deviations[15:16], deviations[16:]]
    between = sum(part.sum() ** 2 for part in parts) * 5 / 4
    expected = between / (sum((part**2).sum() for part in parts) * 17 / 16) * (t.ppf(0.975, 4) / t.ppf(0.975, 16)) ** 2
    assert between > 1.5 * (deviations**2).sum()
    assert design_effect(deviations, groups) == pytest.approx(expected)


def test_copies_tell_no_more_than_one_of_them():
    right = np.repeat([1.0, 0.0], [150, 50])
    copies, groups = np.repeat(right, 4), np.repeat(np.arange(200).astype(str), 4)
    weight = 1 / design_effect(copies - copies.mean(), groups)
    np.testing.assert_allclose(wilson_interval(600 * weight, 800 * weight), wilson_interval(150, 200), atol=1.5e-3)
    assert design_effect(np.zeros(800), groups) == pytest.approx(4, rel=0.01)  # no answer says that copies differ
    assert design_effect(right - 0.75, np.arange(200).astype(str)) == 1
    assert design_effect(right - 0.75, np.full(200, "")) == 1
    assert design_effect(right - 0.75, np.full(200, "one")) == 200


def test_intervals_of_grouped_images_hold_as_often_as_they_claim():
    rng, inside, plain = np.random.default_rng(0), [], []
    for _ in range(400):
        groups, right, _ = alike(30, 6, rng)
        weight = 1 / design_effect(right - right.mean(), groups)
        for counted, share in ((inside, weight), (plain, 1.0)):
            low, high = wilson_interval(right.sum() * share, 180 * share)
            counted.append(low <= 0.8 <= high)
    assert np.mean(plain) < 0.85
    assert 0.93 < np.mean(inside) < 0.98


def test_differences_of_grouped_images_hold_as_often_as_they_claim():
    rng, inside, plain = np.random.default_rng(0), [], []
    for _ in range(400):
        groups, right, _ = alike(30, 6, rng)
        guess = (rng.random(180) < 0.8).astype(float)
        for counted, given in ((inside, groups), (plain, None)):
            low, high = paired_interval(right, guess, groups=given)
            counted.append(low <= 0 <= high)
    assert np.mean(plain) < 0.91
    assert 0.93 < np.mean(inside) < 0.98
