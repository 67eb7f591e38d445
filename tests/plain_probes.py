"""Probes of scikit-learn alone, with the objective of ours."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.svm import LinearSVC


class PlainShrunkScaler(TransformerMixin, BaseEstimator):
    """What the default scaling does, in plain numpy; layers are given by their widths."""

    def __init__(self, widths=None):
        self.widths = widths

    def _layers(self, X):
        start = 0
        for width in self.widths or [X.shape[1]]:
            part = np.asarray(X[:, start : start + width], float)
            yield part / np.linalg.norm(part, axis=1)[:, None]
            start += width

    def fit(self, X, y=None):
        self.learned_ = []
        for part in self._layers(X):
            deviation = np.sqrt((part.var(axis=0) + part.var(axis=0).mean()) / 2)
            size = np.sqrt((part / deviation).var(axis=0).sum())
            self.learned_.append((part.mean(axis=0), deviation * size))
        return self

    def transform(self, X):
        parts = zip(self._layers(X), self.learned_, strict=True)
        return np.concatenate([(part - mean) / scale for part, (mean, scale) in parts], axis=1)


PLAIN_SCALERS = {"shrunk": PlainShrunkScaler, "standard": StandardScaler, "l2": Normalizer, "none": FunctionTransformer}


def plain_probe(clf: str, C: float, scale: str = "shrunk", class_weight: str | None = None):
    """The same objective by scikit-learn alone, to a tight tolerance."""
    if clf == "svm":
        classifier = LinearSVC(C=C, tol=1e-10, max_iter=100_000, dual=False, class_weight=class_weight)
    else:
        classifier = LogisticRegression(C=C, tol=1e-8, max_iter=100_000, class_weight=class_weight)
    return make_pipeline(PLAIN_SCALERS[scale](), classifier)
