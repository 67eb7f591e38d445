"""Puts together the model of a probe that was just fitted."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline

from cnncodes.codes.provenance import Provenance
from cnncodes.models.model import ProbeModel
from cnncodes.models.model_file import digests_of
from cnncodes.models.scores import Scores
from cnncodes.probes.search import Search
from cnncodes.vocabulary import LEARNED_SCALINGS

__all__ = ["C_CHOSEN", "C_GIVEN", "PROTOCOL", "fitted_model"]

PROTOCOL = (
    "accuracy of the pooled out-of-fold predictions of stratified cross-validation; 95 % interval by Wilson, "
    "with n / (1 + 8 / n) for n, as the probes of the folds are not the one that is kept, and less where the images of "
    "a group are right or wrong together; its upper end allows for what the kept probe learns from more images; "
    "{choice}; the probe is then fitted on all training images"
)
C_CHOSEN = "C was chosen on the same folds, which flatters the figure a little (a nested estimate does not)"
C_GIVEN = "C was given"


def fitted_model(
    probe: Pipeline, search: Search, scores: Scores, provenance: Provenance, digests: np.ndarray
) -> ProbeModel:
    """Return a fitted probe with all that new images need.

    Parameters
    ----------
    probe : Pipeline
        Fitted, of a scaling and a linear classifier.
    search : Search
    scores : Scores
    provenance : Provenance
        Provenance of the codes.
    digests : ndarray of uint8, shape (n, 32)
        Digests of the training images.
    """
    scaler, classifier = probe[0], probe[-1]
    d = classifier.coef_.shape[1]
    learned = scores.scale in LEARNED_SCALINGS
    return ProbeModel(
        clf=scores.clf,
        layers=scores.layers,
        scale=scores.scale,
        classes=scores.classes,
        C=scores.C,
        mean=scaler.mean_ if learned else np.zeros(d),
        deviation=scaler.scale_ if learned else np.ones(d),
        coef=classifier.coef_,
        intercept=classifier.intercept_,
        temperature=search.temperature,
        scores=scores,
        provenance=provenance.with_shard(None),
        trained_on=digests_of(digests),
    )
