"""The scaling and the classifier of a model as a fitted scikit-learn pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from cnncodes.probes.probe import CLASSIFIERS
from cnncodes.vocabulary import LEARNED_SCALINGS

__all__ = ["fitted_pipeline"]


def fitted_pipeline(
    *,
    clf: str,
    C: float,
    scale: str,
    widths: Sequence[int],
    classes: Sequence[str],
    n_samples: int,
    mean: np.ndarray,
    deviation: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
) -> Pipeline:
    """Return what `cnncodes.models.model.ProbeModel.to_sklearn` does.

    Parameters
    ----------
    clf, C, scale, classes, mean, deviation, coef, intercept
        As in the model.
    widths : sequence of int
        Features of each layer.
    n_samples : int
        Training images.
    """
    n_features = coef.shape[1]
    steps: list[Any] = []
    if scale == "l2":
        steps = [Normalizer()]
    elif scale == "shrunk":
        ends = np.cumsum(widths)
        parts = [slice(end - width, end) for end, width in zip(ends.tolist(), widths, strict=True)]
        of_layers = make_column_transformer(*((Normalizer(), part) for part in parts))
        steps = [of_layers.fit(np.ones((1, n_features)))]
    if scale in LEARNED_SCALINGS:
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_, scaler.var_ = mean.copy(), deviation.copy(), deviation**2
        scaler.n_samples_seen_ = np.int64(n_samples)
        steps.append(scaler)
    steps = steps or [FunctionTransformer()]
    for step in steps:
        step.n_features_in_ = n_features
    classifier = CLASSIFIERS[clf](C=C)
    classifier.coef_, classifier.intercept_ = coef.copy(), intercept.copy()
    classifier.classes_ = np.array(classes)
    classifier.n_features_in_ = n_features
    return make_pipeline(*steps, classifier)
