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


def jackknife_by_loops(values, groups, classes):
    """Return the variance and its degrees of freedom, by leaving out each group and by the matrix of each sum."""
    more, names = len(set(classes)) > 1, list(dict.fromkeys(groups))
    rows = np.zeros((len(names), len(values)))  # what each image adds to the change when a group is left out
    change = np.zeros(len(names))
    for i, name in enumerate(names):
        for label in sorted(set(classes)):
            of_class, inside = classes == label, groups == name
            both, others = of_class & inside, of_class & ~inside
            left = others.sum() + more
            mean_of_others = (values[others].sum() + more * values.mean()) / left
            sizes = np.array([(others & (groups == other)).sum() for other in names])
            divisor = of_class.sum() * np.sqrt(1 + (sizes**2).sum() / left**2)
            change[i] += (values[both] - mean_of_others).sum() / divisor
            rows[i] += (both - both.sum() / left * others) / divisor
    covariance = rows @ rows.T
    return (change**2).sum(), np.trace(covariance) ** 2 / (covariance**2).sum()


@pytest.mark.parametrize("n_classes", [1, 3])
def test_design_effect_is_that_of_loops_over_groups(n_classes):
    rng = np.random.default_rng(0)
    groups = np.array(["a"] * 14 + ["b"] * 3 + ["c"] * 5 + ["", ""])
    values = rng.random(24) + np.repeat([0.5, -0.5, 0.0, 0.5], [14, 3, 5, 2])
    classes = np.arange(24) % n_classes
    between, freedom = jackknife_by_loops(values, np.array([*groups[:22], "d", "e"]), classes)
    within, freedom_of_images = jackknife_by_loops(values, np.arange(24), classes)
    half = 0.5 / (24 / n_classes) ** 2
    expected = (between + half * (14**2 + 3**2 + 5**2 + 2) / 24) / (within + half)
    assert expected > 1.5
    expected *= (t.ppf(0.975, freedom) / t.ppf(0.975, freedom_of_images)) ** 2
    assert design_effect(values, groups, of_class=classes) == pytest.approx(expected)
    assert design_effect(values - 5, groups, of_class=classes) == pytest.approx(expected)


def test_groups_of_one_size_have_as_many_degrees_of_freedom_as_ever():
    right = np.repeat([1.0, 0.0], [750, 250])
    right[::9] = 1 - right[::9]
    deviations = (right - right.mean()).reshape(25, 40)
    kish = (deviations.sum(axis=1) ** 2).sum() / (deviations**2).sum()
    expected = kish * 25 / 24 * (t.ppf(0.975, 24) / t.ppf(0.975, 999)) ** 2
    assert design_effect(right, np.repeat(np.arange(25).astype(str), 40)) == pytest.approx(expected, rel=0.01)


def test_copies_tell_no_more_than_one_of_them():
    right = np.repeat([1.0, 0.0], [150, 50])
    copies, groups = np.repeat(right, 4), np.repeat(np.arange(200).astype(str), 4)
    weight = 1 / design_effect(copies, groups)
    np.testing.assert_allclose(wilson_interval(600 * weight, 800 * weight), wilson_interval(150, 200), atol=1.5e-3)
    assert design_effect(np.zeros(800), groups) == pytest.approx(4, rel=0.01)  # no answer says that copies differ
    assert design_effect(right, np.arange(200).astype(str)) == 1
    assert design_effect(right, np.full(200, "")) == 1
    assert design_effect(right, np.full(200, "one")) == 200


def test_intervals_of_grouped_images_hold_as_often_as_they_claim():
    rng, inside, plain = np.random.default_rng(0), [], []
    for _ in range(400):
        groups, right, _ = alike(30, 6, rng)
        weight = 1 / design_effect(right, groups)
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


def test_differences_stay_between_minus_one_and_one():
    groups = np.repeat(np.arange(51).astype(str), [150] + [1] * 50)
    a, b = np.arange(200) % 3 > 0, np.arange(200) < 150
    assert paired_interval(a, b, groups=groups) == (-1.0, 1.0)


@pytest.mark.parametrize("sizes", [[150] + [1] * 50, [100] + [1] * 100, [100] + [10] * 10, [50] * 4, [10] * 20])
def test_one_group_with_most_images_does_not_make_the_interval_narrow(sizes):
    rng, inside = np.random.default_rng(0), []
    groups = np.repeat(np.arange(len(sizes)).astype(str), sizes)
    for _ in range(150):
        chances = rng.beta(1.6, 0.4, len(sizes))
        right = (rng.random(200) < np.repeat(chances, sizes)).astype(float)
        weight = 1 / design_effect(right, groups)
        low, high = wilson_interval(right.sum() * weight, 200 * weight)
        inside.append(low <= 0.8 <= high)
    assert np.mean(inside) > 0.92


def test_balanced_interval_changes_little_where_classes_become_two_groups():
    right = np.ones(200)
    right[np.random.default_rng(1).choice(200, 20, replace=False)] = 0
    classes, half = np.repeat(np.arange(10), 20), np.arange(200) % 2
    counts, correct, ends = np.full(10, 20), np.bincount(classes, right), []
    for n_halved in range(11):
        groups = (classes + 10 * half * (classes < n_halved)).astype(str)
        weight = 1 / design_effect(right, groups, of_class=classes)
        ends.append(balanced_interval(correct * weight, counts * weight))
    assert np.ptp(ends, axis=0).max() < 0.04
    assert min(low for low, _ in ends) > 0.79
