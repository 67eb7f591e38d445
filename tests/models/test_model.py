"""Models come back as they were: from their file, and from a pickle."""

from __future__ import annotations

import pickle

import numpy as np

from cnncodes.models.model import ProbeModel


def test_what_is_saved_is_loaded(model, saved):
    loaded = ProbeModel.load(saved)
    assert loaded.same_as(model)
    X = np.random.default_rng(0).normal(size=(7, 40))
    np.testing.assert_array_equal(loaded.decision_function(X), model.decision_function(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.scores == model.scores
    assert loaded.provenance == model.provenance


def test_pickle_gives_the_same_model(model):
    again = pickle.loads(pickle.dumps(model))
    assert type(again) is ProbeModel
    assert again.same_as(model)
    X = np.random.default_rng(0).normal(size=(7, 40))
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    np.testing.assert_array_equal(again.novelty(X), model.novelty(X))
