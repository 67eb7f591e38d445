"""The model of a probe that was just fitted answers as the probe does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from digit_models import codes_of

from cnncodes.models.fitted_model import fitted_model
from cnncodes.models.model_file import digests_of
from cnncodes.probes.probe import decide
from cnncodes.probes.search import fit_probe


@pytest.mark.parametrize("scale", ["standard", "none"])
def test_model_answers_as_the_probe_does(scale, model, split_codes):
    X, y = codes_of(split_codes, model.layers, "train")
    probe, search = fit_probe(X, y, C=0.01, cv=2, scale=scale)
    digests = np.arange(64, dtype=np.uint8).reshape(2, 32)
    built = fitted_model(probe, search, replace(model.scores, scale=scale), model.provenance, digests)
    np.testing.assert_allclose(built.decision_function(X), decide(probe, X), atol=1e-5)
    assert built.trained_on == digests_of(digests) == bytes(range(8)).hex() + bytes(range(32, 40)).hex()
    assert (built.C, built.temperature, built.scale) == (0.01, search.temperature, scale)
