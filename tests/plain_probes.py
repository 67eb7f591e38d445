"""Probes of scikit-learn alone, with the objective of ours."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.svm import LinearSVC

PLAIN_SCALERS = {"standard": StandardScaler, "l2": Normalizer, "none": FunctionTransformer}


def plain_probe(clf: str, C: float, scale: str = "standard", class_weight: str | None = None):
    """The same objective by scikit-learn alone, to a tight tolerance."""
    if clf == "svm":
        classifier = LinearSVC(C=C, tol=1e-10, max_iter=100_000, dual=False, class_weight=class_weight)
    else:
        classifier = LogisticRegression(C=C, tol=1e-8, max_iter=100_000, class_weight=class_weight)
    return make_pipeline(PLAIN_SCALERS[scale](), classifier)
