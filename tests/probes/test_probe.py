"""The probe: scaling and classifier of scikit-learn, but for columns that hardly vary."""

from __future__ import annotations

import numpy as np
import pytest
from plain_probes import PLAIN_SCALERS, plain_probe
from sklearn.preprocessing import StandardScaler

from cnncodes.errors import SettingError
from cnncodes.probes.probe import CodeScaler, make_probe


@pytest.mark.parametrize("scale", PLAIN_SCALERS)
@pytest.mark.parametrize("clf", ["svm", "logreg"])
def test_probe_decides_as_plain_scikit_learn(clf, scale, digits):
    X, y = digits
    ours = make_probe(clf, C=0.01, scale=scale).fit(X, y).decision_function(X)
    plain = plain_probe(clf, 0.01, scale).fit(X, y).decision_function(X)
    np.testing.assert_allclose(ours, plain, atol=3e-3 * np.abs(plain).max())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"clf": "svn"}, "no clf 'svn'. Did you mean 'svm'?"),
        ({"scale": "standrad"}, "no scale 'standrad'. Did you mean 'standard'?"),
        ({"C": 0.0}, "must be positive"),
        ({"C": np.nan}, "must be positive"),
        ({"C": np.inf}, "finite"),
        ({"C": 1e300}, "from 1e-12 to 1e+12"),
        ({"class_weight": "balance"}, "no class weight 'balance'"),
    ],
)
def test_wrong_parameter_is_refused(parameters, message):
    with pytest.raises(SettingError) as caught:
        make_probe(**parameters)
    assert message in str(caught.value)


def test_scaler_is_the_standard_one_where_columns_vary(digits):
    X, _ = digits
    np.testing.assert_array_equal(CodeScaler().fit_transform(X), StandardScaler().fit_transform(X))


@pytest.mark.parametrize("unit", [1.0, 1e-7])
def test_nearly_dead_column_that_wakes_up_changes_no_decision(unit, digits):
    X, y = digits
    dead = 1e-8 * np.random.default_rng(0).random((len(X), 1)) * (y == y[0])[:, None]
    constant = np.full((len(X), 1), 3.0)
    probe = make_probe("svm", C=1.0).fit(unit * np.hstack([X, dead, constant]), y)
    asleep = probe.decision_function(unit * np.hstack([X, dead, constant]))
    awake = probe.decision_function(unit * np.hstack([X, dead + 1, constant + 1]))
    np.testing.assert_allclose(awake, asleep, atol=1e-5)
    np.testing.assert_allclose(awake, make_probe("svm", C=1.0).fit(X, y).decision_function(X), atol=1e-3)


def test_columns_without_any_variation_are_left():
    np.testing.assert_array_equal(CodeScaler().fit_transform(np.full((4, 2), 7.0)), np.zeros((4, 2)))
