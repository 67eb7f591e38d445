"""What the estimators share: parameters that name a network, and images as input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Set
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from cnncodes.errors import ImagesError
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.vocabulary import AUTO, POOLINGS, PRECISIONS, RESIZE_MODES, VIEWS

if TYPE_CHECKING:
    from cnncodes.networks.portable import Packed

__all__ = ["ImageEstimator"]

POSITIVE = Interval(Integral, 1, None, closed="left")


class ImageEstimator(BaseEstimator):
    """An estimator whose samples are images: scikit-learn must not take them for a table of numbers."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str],
        "layer": [str, "array-like"],
        "weights": [str, Path, None],
        "pooling": [StrOptions(set(POOLINGS)), None],
        "image_size": [POSITIVE, None],
        "resize": [StrOptions(set(RESIZE_MODES))],
        "views": [StrOptions(set(VIEWS))],
        "precision": [StrOptions({AUTO, *PRECISIONS})],
        "device": [str],
        "batch_size": [POSITIVE, None],
        "workers": [POSITIVE, None],
        "cache": [str, Path, None],
        "ignore_profiles": ["boolean"],
        "exact_decode": ["boolean"],
    }

    _networks: Packed  # only if pickled where the user had registered networks

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, with the networks that the user has registered."""
        state = super().__getstate__()
        if "cnncodes.networks.registry" in sys.modules:  # or else nothing is registered, and torch need not be imported
            from cnncodes.networks.portable import pack_networks

            self._unpack_networks()  # another pickle may have brought another network of the same name since
            if networks := state.get("_networks", {}) | pack_networks(self.backbone):
                state["_networks"] = networks
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a pickled estimator; one of before there were the parameters has what it did."""
        super().__setstate__({"ignore_profiles": True, "exact_decode": False} | state)
        self._unpack_networks()

    def _unpack_networks(self, name: str | None = None) -> None:
        """Let `register_backbone` have been called here, too; of several pickles that name is that of this one."""
        if hasattr(self, "_networks"):
            from cnncodes.networks.portable import unpack_networks

            unpack_networks(self._networks, name)

    @staticmethod
    def _load_images(X: Any) -> ImageSet:
        """Return the images of X, which a caller may give again."""
        if isinstance(X, Iterator):
            raise ImagesError(f"X is a {type(X).__name__}, which can be read only once; give a list of the images")
        if isinstance(X, (Set, Mapping)):
            raise ImagesError(f"X is a {type(X).__name__}, which has no order of images; give a list")
        return load_images(X)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True  # images are validated by load_images
        return tags
