"""Learning curves: what their points are, and what they promise of twice as many images."""

from __future__ import annotations

import numpy as np
import pytest
from digit_codes import X_DIGITS, Y_DIGITS

from cnncodes.errors import ProbeError
from cnncodes.insight.learning_curve import NEAR, LearningCurve, _gain, _gains, _interval, _thinned, learning_curve
from cnncodes.probes.folds import make_folds
from cnncodes.probes.search import search_C

N = 200
X, Y = X_DIGITS[:N], np.array([f"digit {digit}" for digit in Y_DIGITS[:N]])
C = 0.01


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    return learning_curve(X, Y, C=C, cv=4, repeats=2)


def test_the_last_point_is_the_cross_validated_accuracy(curve: LearningCurve) -> None:
    alone = [search_C(X, Y, Cs=C * NEAR, cv=4, seed=seed) for seed in (0, 1)]
    assert curve.accuracy[-1] == pytest.approx(np.mean([found.predictions == Y for found in alone]))
    assert curve.sizes == [37.5, 75, 150]  # an eighth would be fewer than two images of each class


def test_it_rises_and_promises_more(curve: LearningCurve) -> None:
    assert curve.accuracy == sorted(curve.accuracy)
    low, high = curve.gain_interval
    assert low < curve.gain < high
    assert 0 < curve.gain < curve.accuracy[-1] - curve.accuracy[-2]


def test_class_gains_are_those_of_the_last_doubling(curve: LearningCurve) -> None:
    counts = {name: int((name == Y).sum()) for name in np.unique(Y)}
    whole = sum(gain * counts[name] for name, gain in curve.class_gain.items()) / N
    assert whole == pytest.approx(curve.accuracy[-1] - curve.accuracy[-2])


def test_shares_are_of_each_class_and_lie_within_each_other() -> None:
    of_class = np.unique(Y, return_inverse=True)[1]
    folds = make_folds(Y, cv=4)[0]
    quarter, half, whole = (_thinned(folds, of_class, share, 0) for share in (0.25, 0.5, 1.0))
    for (few, _), (more, _), (all_, test), (train, held_out) in zip(quarter, half, whole, folds, strict=True):
        assert set(few) < set(more) < set(train)
        np.testing.assert_array_equal(all_, train)
        np.testing.assert_array_equal(test, held_out)
        expected = np.round(np.bincount(of_class[train]) / 2)
        np.testing.assert_array_equal(np.bincount(of_class[more]), expected)


def test_an_error_that_falls_with_a_power_is_continued() -> None:
    sizes, n = np.array([100.0, 200, 400, 800]), 1000
    errors = 3 * sizes**-0.5
    now = errors[-1] * (n / 800) ** -0.4  # the power 0.5, flatter by a fifth
    expected = now * (1 - 2**-0.4)
    assert _gains(errors[:, None], sizes, 10**9)[0] == pytest.approx(0, abs=1e-4)
    smooth = (errors[:, None] * (n + 1) - 0.5) / n  # undoes the half image that is added
    assert _gains(smooth, sizes, n)[0] == pytest.approx(expected)
    rising = _gains(np.array([[0.1], [0.2], [0.3], [0.4]]), sizes, n)
    assert rising[0] == 0  # more images are not taken to harm


def test_the_interval_is_wider_for_fewer_images_and_for_noisier_draws() -> None:
    rng = np.random.default_rng(0)
    errors, sizes = np.array([0.4, 0.3, 0.22]), np.array([50.0, 100, 200])
    steady = np.tile(1 - errors[:, None], 3)
    noisy = steady + rng.normal(0, 0.05, steady.shape)

    def deviation(n: int, by_repeat: np.ndarray) -> float:
        by_image = (rng.random((3, n)) > errors[:, None]).astype(float)
        return _gain(by_image, by_repeat, sizes, 0)[1]

    assert deviation(250, steady) > 1.5 * deviation(2500, steady)
    assert deviation(250, noisy) > 1.2 * deviation(250, steady)


def test_copies_in_a_group_tell_no_more_than_one_of_them() -> None:
    rng = np.random.default_rng(0)
    errors, sizes = np.array([0.4, 0.3, 0.22]), np.array([50.0, 100, 200])
    by_image, by_repeat = (rng.random((3, 250)) > errors[:, None]).astype(float), np.tile(1 - errors[:, None], 3)
    copies, groups = by_image.repeat(4, axis=1), np.repeat(np.arange(250).astype(str), 4)
    once = _gain(by_image, by_repeat, sizes, 0)
    assert _gain(copies, by_repeat, 4 * sizes, 0, groups) == pytest.approx(once, rel=0.1)
    assert _gain(copies, by_repeat, 4 * sizes, 0)[1] < 0.85 * once[1]
    assert _interval(copies[2], groups) == pytest.approx(_interval(by_image[2], None), abs=0.002)
    assert np.diff(_interval(copies[2], None)) < 0.55 * np.diff(_interval(by_image[2], None))


def test_too_few_images_are_refused() -> None:
    few = np.concatenate([np.flatnonzero(name == Y)[:2] for name in np.unique(Y)])
    with pytest.raises(ProbeError, match="20 images of 10 classes are too few for a learning curve"):
        learning_curve(X[few], Y[few], C=C, cv=2)


def test_only_classes_that_grew_are_said_to_be_helped() -> None:
    gains = {"cat": 0.05, "dog": 0.0, "fox": -0.1, "owl": 0.0004}
    curve = LearningCurve([1], [1], [(0, 1)], 0.01, (0, 1), gains)
    assert curve.helped_most() == [("cat", 0.05)]
    assert LearningCurve([1], [1], [(0, 1)], 0.01, (0, 1), {"dog": 0.0}).helped_most() == []


def test_the_plot_shows_the_points_and_twice_as_many(curve: LearningCurve) -> None:
    axes = curve.plot()
    points, expected = axes.containers[0].lines[0], axes.lines[-1]
    np.testing.assert_allclose(points.get_ydata(), curve.accuracy)
    np.testing.assert_allclose(expected.get_xdata(), [curve.sizes[-1], 2 * curve.sizes[-1]])
    np.testing.assert_allclose(np.diff(expected.get_ydata()), curve.gain)
