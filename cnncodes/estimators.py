"""scikit-learn estimators that take images: `CNNCodes` makes codes of them, `CNNCodesClassifier` labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from cnncodes.images import ImageSet, load_images

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

__all__ = ["CNNCodes", "CNNCodesClassifier"]

_NETWORK_SETTINGS = ("backbone", "weights", "pooling", "image_size", "resize", "precision", "device", "batch_size")


class _ImageEstimator(BaseEstimator):
    """What the two estimators share: image input, and parameters that name a network."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str],
        "layer": [str, "array-like"],
        "weights": [str, Path, None],
        "pooling": [str],
        "image_size": [int, None],
        "resize": [str],
        "precision": [str],
        "device": [str],
        "batch_size": [int, None],
        "workers": [int, None],
        "cache": [str, Path, None],
    }

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags
