"""The scalings: what they do to columns that hardly vary, to layers side by side, and to rows given in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from plain_probes import PlainShrunkScaler
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from cnncodes.probes.probe import make_probe
from cnncodes.probes.scaling import SCALINGS, CodeScaler, ShrunkScaler, make_scaler, scaling_of
from cnncodes.vocabulary import SCALINGS as NAMES


def test_each_name_has_a_scaling():
    assert list(SCALINGS) == list(NAMES)


@pytest.mark.parametrize("widths", [None, (24, 40)])
def test_shrunk_scaling_is_that_of_plain_numpy(widths, digits):
    X, _ = digits
    expected = PlainShrunkScaler(widths).fit(X[:100]).transform(X)
    ours = ShrunkScaler(widths).fit(X[:100])
    np.testing.assert_allclose(ours.transform(X), expected, atol=1e-12)
    np.testing.assert_allclose(clone(ours).fit(X[:100].astype(np.float32)).transform(X), expected, atol=1e-5)


def test_shrunk_scaling_is_learned_in_pieces_as_at_once(digits):
    X, _ = digits
    pieces = ShrunkScaler((24, 40))
    for start in range(0, len(X), 70):
        pieces.partial_fit(X[start : start + 70])
    np.testing.assert_allclose(pieces.transform(X), ShrunkScaler((24, 40)).fit_transform(X), atol=1e-12)


def test_each_layer_counts_the_same_whatever_its_unit_and_its_size(digits):
    X, _ = digits
    other_unit = np.concatenate([1e4 * X[:, :24], X[:, 24:]], axis=1)
    scaled = make_scaler(scaling_of("shrunk", [24, 40])).fit_transform(other_unit)
    assert scaled[:, :24].var(axis=0).sum() == pytest.approx(1)
    assert scaled[:, 24:].var(axis=0).sum() == pytest.approx(1)
    np.testing.assert_allclose(scaled, ShrunkScaler((24, 40)).fit_transform(X), atol=1e-12)


def test_only_layers_side_by_side_need_their_widths():
    assert scaling_of("shrunk", [24]) == "shrunk"
    assert scaling_of("standard", [24, 40]) == "standard"


def test_rows_that_are_all_the_same_or_zero_stay_finite():
    np.testing.assert_array_equal(ShrunkScaler().fit_transform(np.full((4, 2), 7.0)), np.zeros((4, 2)))
    np.testing.assert_array_equal(ShrunkScaler().fit_transform(np.zeros((4, 2))), np.zeros((4, 2)))


def test_column_that_is_dead_in_training_counts_as_any_other_when_it_wakes_up(digits):
    X, y = digits
    dead = np.hstack([X, np.zeros((len(X), 1))])
    shrunk, standard = (make_probe("svm", C=1.0, scale=scale).fit(dead, y) for scale in ("shrunk", "standard"))
    awake = dead + 1e-3 * np.eye(X.shape[1] + 1)[-1] * X.max()
    np.testing.assert_allclose(shrunk.decision_function(awake), shrunk.decision_function(dead), atol=0.01)
    np.testing.assert_allclose(standard.decision_function(awake), standard.decision_function(dead), atol=0.01)


def test_scaler_is_the_standard_one_where_columns_vary(digits):
    X, _ = digits
    np.testing.assert_array_equal(CodeScaler().fit_transform(X), StandardScaler().fit_transform(X))


@pytest.mark.parametrize("unit", [1.0, 1e-7])
def test_nearly_dead_column_that_wakes_up_changes_no_decision(unit, digits):
    X, y = digits
    dead = 1e-8 * np.random.default_rng(0).random((len(X), 1)) * (y == y[0])[:, None]
    constant = np.full((len(X), 1), 3.0)
    probe = make_probe("svm", C=1.0, scale="standard").fit(unit * np.hstack([X, dead, constant]), y)
    asleep = probe.decision_function(unit * np.hstack([X, dead, constant]))
    awake = probe.decision_function(unit * np.hstack([X, dead + 1, constant + 1]))
    np.testing.assert_allclose(awake, asleep, atol=1e-5)
    np.testing.assert_allclose(
        awake, make_probe("svm", C=1.0, scale="standard").fit(X, y).decision_function(X), atol=1e-3
    )


def test_columns_without_any_variation_are_left():
    np.testing.assert_array_equal(CodeScaler().fit_transform(np.full((4, 2), 7.0)), np.zeros((4, 2)))


@pytest.mark.parametrize("widths", [None, (3, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fit_transform_gives_what_fit_and_transform_give(widths, dtype):
    X = np.abs(np.random.default_rng(1).standard_normal((50, 8))).astype(dtype)
    X[:, 2] = 0.0
    slow, fast = ShrunkScaler(widths).fit(X), ShrunkScaler(widths)
    np.testing.assert_allclose(fast.fit_transform(X), slow.transform(X), atol=2e-7)
    for name in ("mean_", "var_", "scale_"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-5, atol=1e-8)
    assert (fast.n_samples_seen_, fast.n_features_in_) == (50, 8)


def test_fit_transform_heeds_weights():
    X = np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    weights = np.array([1.0, 0.0, 2.0])
    slow, fast = ShrunkScaler().fit(X, sample_weight=weights), ShrunkScaler()
    fast.fit_transform(X, sample_weight=weights)
    assert fast.mean_ == pytest.approx(slow.mean_)
