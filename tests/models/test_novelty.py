"""How novel images look to a model, by its own codes, block by block."""

from __future__ import annotations

import numpy as np
import pytest
from digit_codes import X_DIGITS, Y_DIGITS, names, write_codes
from digit_models import codes_of
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

import cnncodes.models.novelty
from cnncodes.models.fit import fit
from cnncodes.vocabulary import SCALINGS


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
    monkeypatch.setattr(cnncodes.models.novelty, "BLOCK_ROWS", 7)
    np.testing.assert_array_equal(model.novelty(X_test), whole)


def test_a_class_that_was_held_out_is_novel(tmp_path):
    known, unknown = np.flatnonzero(Y_DIGITS != 3)[:400], np.flatnonzero(Y_DIGITS == 3)[:60]
    model = fit(write_codes(tmp_path / "codes.h5", known[:300], names(known[:300])), C=0.01)
    of_known, of_unknown = (model.novelty(X_DIGITS[rows][:, 24:]) for rows in (known[300:], unknown))
    scores, truth = np.concatenate([of_known, of_unknown]), np.repeat([0, 1], [len(of_known), len(of_unknown)])
    assert roc_auc_score(truth, scores) > 0.8
