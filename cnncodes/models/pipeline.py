"""The scaling and the classifier of a model as a fitted scikit-learn pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from cnncodes.models.linear_probe import LinearProbe
from cnncodes.probes.probe import CLASSIFIERS
from cnncodes.vocabulary import LEARNED_SCALINGS

__all__ = ["fitted_pipeline"]


def fitted_pipeline(probe: LinearProbe) -> Pipeline:
    """Return what `cnncodes.models.model.ProbeModel.to_sklearn` does."""
    n_features = probe.coef.shape[1]
    steps: list[Any] = []
    if probe.scale == "l2":
        steps = [Normalizer()]
    elif probe.scale == "shrunk":
        ends = np.cumsum(probe.widths)
        parts = [slice(end - width, end) for end, width in zip(ends.tolist(), probe.widths, strict=True)]
        of_layers = make_column_transformer(*((Normalizer(), part) for part in parts))
        steps = [of_layers.fit(np.ones((1, n_features)))]
    if probe.scale in LEARNED_SCALINGS:
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_, scaler.var_ = probe.mean.copy(), probe.deviation.copy(), probe.deviation**2
        scaler.n_samples_seen_ = np.int64(probe.scores.n)
        steps.append(scaler)
    steps = steps or [FunctionTransformer()]
    for step in steps:
        step.n_features_in_ = n_features
    classifier = CLASSIFIERS[probe.clf](C=probe.C)
    classifier.coef_, classifier.intercept_ = probe.coef.copy(), probe.intercept.copy()
    classifier.classes_ = np.array(probe.classes)
    classifier.n_features_in_ = n_features
    return make_pipeline(*steps, classifier)
