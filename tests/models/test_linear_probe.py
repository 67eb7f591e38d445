"""Fitted probes: what they decide, how sure and how surprised they are, and which codes they take."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from digit_codes import LAYERS, X_DIGITS, Y_DIGITS, names, write_codes
from digit_models import N_TRAIN, codes_of, plain
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import cnncodes.models.linear_probe
from cnncodes.errors import ShapeError
from cnncodes.models.fit import fit
from cnncodes.vocabulary import SCALINGS


def test_codes_are_centred_before_they_are_scaled(model):
    rng = np.random.default_rng(0)
    far = copy.copy(model)
    far.scale = "standard"
    far.mean, far.deviation = np.full(40, 1e4), np.full(40, 1e-5)
    X = (1e4 + 1e-5 * rng.normal(size=(5, 40))).astype(np.float64)
    wide = np.longdouble
    exact = (X.astype(wide) - far.mean.astype(wide)) / far.deviation.astype(wide) @ far.coef.T.astype(wide)
    np.testing.assert_allclose(far.decision_function(X), (exact + far.intercept).astype(float), rtol=1e-9)


def test_rows_taken_in_pieces_decide_the_same(model, split_codes, monkeypatch):
    X, _ = codes_of(split_codes, "penultimate", None)
    whole = model.decision_function(X)
    monkeypatch.setattr(cnncodes.models.linear_probe, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(model.decision_function(X), whole, rtol=1e-12, atol=1e-12)
    assert model.decision_function(X[:0]).shape == (0, 10)


@pytest.mark.parametrize("codes", ["split_codes", "pair_codes"])
def test_probabilities_of_logistic_regression_are_its_own_at_another_temperature(codes, request):
    path = request.getfixturevalue(codes)
    model = fit(path, clf="logreg", C=0.3, cv=2)
    X, y = codes_of(path, "penultimate", "train" if codes == "split_codes" else None)
    own = model.to_sklearn().predict_proba(X.astype(float))
    expected = own ** (1 / model.temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-12)
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    held_out = cross_val_predict(plain("logreg", 0.3), X, y, cv=folds, method="predict_proba")
    right = np.mean(np.array(model.classes)[held_out.argmax(axis=1)] == y)
    tempered = held_out ** (1 / model.temperature)
    tempered /= tempered.sum(axis=1, keepdims=True)
    assert held_out.max(axis=1).mean() < right - 0.05  # so strong a penalty makes it too timid
    assert tempered.max(axis=1).mean() == pytest.approx(right, abs=0.05)


@pytest.mark.parametrize("codes", ["split_codes", "pair_codes"])
def test_probabilities_of_an_svm_are_as_good_as_those_of_scikit_learns_calibration(codes, request, tmp_path):
    path = request.getfixturevalue(codes)
    model = fit(path, clf="svm")
    X, y = codes_of(path, "penultimate", "train" if codes == "split_codes" else None)
    fresh = np.flatnonzero(np.isin(Y_DIGITS, Y_DIGITS[:N_TRAIN] if codes == "split_codes" else [1, 8]))[-300:]
    X_new, y_new = X_DIGITS[fresh][:, LAYERS["penultimate"]], names(fresh)
    chances = model.predict_proba(X_new)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert np.array(model.classes)[chances.argmax(axis=1)].tolist() == model.predict(X_new).tolist()
    theirs = CalibratedClassifierCV(plain("svm", model.C), cv=5, ensemble=False).fit(X, y)
    assert log_loss(y_new, chances) < 1.1 * log_loss(y_new, theirs.predict_proba(X_new)) + 0.02
    right = np.mean(model.predict(X_new) == y_new)
    assert chances.max(axis=1).mean() == pytest.approx(right, abs=0.1)


def test_codes_of_another_length_are_refused(model):
    for shape in ((3, 41), (40,)):
        for method in (model.predict, model.novelty):
            with pytest.raises(ShapeError, match=r"expected \(n, 40\)"):
                method(np.zeros(shape))


@pytest.mark.parametrize("scale", SCALINGS)
def test_novelty_of_a_model_is_that_of_its_unscaled_codes(scale, split_codes, monkeypatch):
    model = fit(split_codes, C=0.01, scale=scale)
    X, y = codes_of(split_codes, "penultimate", "train")
    U = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_array_equal(model.training_codes, U.astype(np.float16))
    means = np.stack([U[y == label].mean(axis=0) for label in model.classes])
    np.testing.assert_allclose(model.class_means, means, atol=1e-3)
    X_test, _ = codes_of(split_codes, "penultimate", "test")
    whole = model.novelty(X_test)
    V, middle = X_test / np.linalg.norm(X_test, axis=1, keepdims=True), model.class_means.mean(axis=0)
    angles = cosine_similarity(V - middle, model.class_means - middle).max(axis=1)
    near = np.sort(V @ model.training_codes.astype(float).T, axis=1)[:, -3:].mean(axis=1)
    assert (np.diff(whole[np.argsort(0.8 * near + 0.2 * angles)]) <= 0).all()
    assert np.mean(whole >= 0.9) == pytest.approx(0.1, abs=0.08)
    monkeypatch.setattr(cnncodes.models.linear_probe, "BLOCK_ROWS", 7)
    np.testing.assert_array_equal(model.novelty(X_test), whole)


def test_a_class_that_was_held_out_is_novel(tmp_path):
    known, unknown = np.flatnonzero(Y_DIGITS != 3)[:400], np.flatnonzero(Y_DIGITS == 3)[:60]
    model = fit(write_codes(tmp_path / "codes.h5", known[:300], names(known[:300])), C=0.01)
    of_known, of_unknown = (model.novelty(X_DIGITS[rows][:, 24:]) for rows in (known[300:], unknown))
    scores, truth = np.concatenate([of_known, of_unknown]), np.repeat([0, 1], [len(of_known), len(of_unknown)])
    assert roc_auc_score(truth, scores) > 0.8
