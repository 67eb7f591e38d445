"""What the estimators share: parameters that name a network, and images as input."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from cnncodes.vocabulary import AUTO, POOLINGS, PRECISIONS, RESIZE_MODES, VIEWS

__all__ = ["ImageEstimator"]

POSITIVE = Interval(Integral, 1, None, closed="left")


class ImageEstimator(BaseEstimator):
    """An estimator whose samples are images: scikit-learn must not take them for a table of numbers."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str],
        "layer": [str, "array-like"],
        "weights": [str, Path, None],
        "pooling": [StrOptions(set(POOLINGS))],
        "image_size": [POSITIVE, None],
        "resize": [StrOptions(set(RESIZE_MODES))],
        "views": [StrOptions(set(VIEWS))],
        "precision": [StrOptions({AUTO, *PRECISIONS})],
        "device": [str],
        "batch_size": [POSITIVE, None],
        "workers": [POSITIVE, None],
        "cache": [str, Path, None],
        "ignore_profiles": ["boolean"],
    }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a pickled estimator; one of before there was the parameter ignored colour profiles."""
        super().__setstate__({"ignore_profiles": True} | state)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True  # images are validated by load_images
        return tags
