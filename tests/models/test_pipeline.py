"""The scikit-learn pipeline of a model decides as the model does."""

from __future__ import annotations

import numpy as np
import pytest
from digit_models import codes_of, plain

from cnncodes.models.fit import fit
from cnncodes.vocabulary import SCALINGS


@pytest.mark.parametrize("scale", SCALINGS)
@pytest.mark.parametrize("clf", ["svm", "logreg"])
@pytest.mark.parametrize("codes", ["split_codes", "pair_codes"])
def test_decisions_are_those_of_scikit_learn(clf, scale, codes, request):
    path = request.getfixturevalue(codes)
    model = fit(path, clf=clf, scale=scale, C=0.01, cv=2)
    X, y = codes_of(path, "penultimate", "train" if codes == "split_codes" else None)
    ours = model.decision_function(X)
    exported = model.to_sklearn()
    np.testing.assert_allclose(ours, exported.decision_function(X.astype(float)).reshape(ours.shape), rtol=1e-10)
    assert model.predict(X).tolist() == exported.predict(X.astype(float)).tolist()
    X = X.astype(float)  # in float32, scikit-learn's logistic regression stops early
    expected = plain(clf, 0.01, scale).fit(X, y).decision_function(X).reshape(ours.shape)
    np.testing.assert_allclose(ours, expected, atol=3e-3 * np.abs(expected).max())
