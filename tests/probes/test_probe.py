"""The probe: scaling and classifier of scikit-learn, but for columns that hardly vary."""

from __future__ import annotations

import numpy as np
import pytest
from plain_probes import PLAIN_SCALERS, plain_probe

from cnncodes.errors import SettingError
from cnncodes.probes.probe import make_probe, usual_C


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


@pytest.mark.parametrize("scale", PLAIN_SCALERS)
def test_the_usual_C_regularises_as_much_whatever_the_scaling_is(scale: str, digits: tuple) -> None:
    X, _ = digits
    scaled = PLAIN_SCALERS[scale]().fit_transform(X)
    spread = np.linalg.norm(scaled - scaled.mean(axis=0), axis=1) ** 2
    assert usual_C(X, scale=scale) == pytest.approx(1 / spread.mean(), rel=1e-3)
    assert usual_C(X, "logreg", scale) == pytest.approx(8 / spread.mean(), rel=1e-3)
    assert usual_C(7 * X, scale=scale) * (49 if scale == "none" else 1) == pytest.approx(
        usual_C(X, scale=scale), rel=1e-3
    )


def test_codes_that_do_not_vary_have_a_usual_C() -> None:
    assert usual_C(np.ones((4, 3))) == 1
