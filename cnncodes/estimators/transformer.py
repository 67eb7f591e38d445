"""Turns images into codes: `CNNCodes`, a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from cnncodes.codes.views import averaged
from cnncodes.errors import ImagesError, MismatchError, SettingError
from cnncodes.estimators.image_estimator import ImageEstimator
from cnncodes.images.image_set import Images, ImageSet
from cnncodes.vocabulary import AUTO, NO_VIEWS, as_names

if TYPE_CHECKING:
    from cnncodes.extraction.settings import Settings
    from cnncodes.runtime.frozen_network import FrozenNetwork

__all__ = ["CNNCodes"]


class CNNCodes(TransformerMixin, ImageEstimator):
    """Turn images into the codes of a frozen, pretrained network.

    Parameters
    ----------
    backbone : str, default="mobilenet_v2"
        Name of the network; ``cnncodes backbones`` lists them.
    layer : str or sequence of str, default="penultimate"
        Layer whose codes are returned; the codes of several layers are concatenated.
    weights : str or Path, optional
        Name of published weights, or path of a file. By default the weights that ``cnncodes backbones`` names.
    pooling : {"avg", "max", "gem", "grid2", "flatten", "cls", "patches", "cls+patches"}, optional
        How a feature map becomes a vector: mean, maximum, generalised mean, means of 2 × 2 parts, or all its values;
        and tokens: the class token, the mean of the patches, or both. By default the mean; for networks of tokens what
        their papers read.
    image_size : int, optional
        Side in pixels of the square that enters the network. By default that of the weights.
    resize : {"crop", "pad", "squash"}, default="crop"
        How an image becomes square: its centre is cut out, its borders are padded, or it is distorted.
    views : {"none", "flip", "10crop"}, default="none"
        Views of an image: itself, also its mirror image, or ten crops of both. `transform` returns the mean of their
        codes; the score that a linear classifier gives to that mean is the mean of its scores of the views.
    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
        Precision of the network. ``"auto"`` is bfloat16 where that is fast and the codes stay the same.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where the network runs. ``"cuda"`` without an index uses every GPU.
    batch_size : int, optional
        Images that run through the network at a time. By default what suits network and device.
    workers : int, optional
        Threads that decode and compute. By default one for each core.
    cache : path, optional
        A codes file, made by ``cnncodes extract`` or here. Codes that it holds are not computed again: images are found
        by their content, and the default layers are kept beside `layer`, so that a search over ``layer`` runs each
        image once.
    ignore_profiles : bool, default=False
        Let the numbers of images count as sRGB, whatever colour profile is embedded; otherwise convert them to sRGB.
    exact_decode : bool, default=False
        Decode JPEG at full size and resize with Pillow: bit for bit the pixels of the weights' own transform.

    Attributes
    ----------
    n_features_out_ : int
        Code length.
    provenance_ : Provenance
        Provenance of the codes: backbone, digest of the weights, preprocessing, layers, versions.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((2, 32, 32, 3), np.uint8)
    >>> CNNCodes(layer="layer3").fit_transform(images).shape
    (2, 96)

    In a pipeline, with a cache:

    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import LinearSVC
    >>> pipe = make_pipeline(CNNCodes(layer="layer3", cache="codes.h5"), StandardScaler(), LinearSVC())
    >>> pipe.fit(paths, y)  # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: str = "mobilenet_v2",
        *,
        layer: str | Sequence[str] = "penultimate",
        weights: str | Path | None = None,
        pooling: str | None = None,
        image_size: int | None = None,
        resize: str = "crop",
        views: str = NO_VIEWS,
        precision: str = AUTO,
        device: str = AUTO,
        batch_size: int | None = None,
        workers: int | None = None,
        cache: str | Path | None = None,
        ignore_profiles: bool = False,
        exact_decode: bool = False,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.weights = weights
        self.pooling = pooling
        self.image_size = image_size
        self.resize = resize
        self.views = views
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.workers = workers
        self.cache = cache
        self.ignore_profiles = ignore_profiles
        self.exact_decode = exact_decode

    def fit(self, X: Images, y: object = None) -> CNNCodes:
        """Find out the code length; nothing is learned from the images.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8
            Images; also a Series or a one-column frame of paths, or an `ImageSet`. Arrays: (n, H, W, 3) or (n, H, W).
        y : ignored
            Here for scikit-learn's tools only.

        Returns
        -------
        CNNCodes
            The transformer itself.
        """
        self._fit(X)
        return self

    def fit_transform(self, X: Images, y: object = None) -> np.ndarray:
        """Fit, and return the codes of images, each the mean over its views; a cached image is read once for both.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8
            Images; also a Series or a one-column frame of paths, or an `ImageSet`. Arrays: (n, H, W, 3) or (n, H, W).
        y : ignored
            Here for scikit-learn's tools only.

        Returns
        -------
        ndarray of float32, shape (n, n_features_out_)
            Row i belongs to image i.

        Raises
        ------
        ImagesError, MismatchError
            As for `transform`.
        """
        return averaged(self._fit_codes(X))

    def _fit_codes(self, X: Images) -> np.ndarray:
        """Fit, and return the codes as `_codes` does."""
        codes = self._fit(X)
        return self._codes(X) if codes is None else codes

    def _fit(self, X: Images) -> np.ndarray | None:
        """Find out the code length; return the codes if a cache now has them."""
        self._validate_params()
        images, codes = self._load_images(X), None
        if self.cache is not None:
            from cnncodes.codes.file import CodesFile

            codes = self._cached(images, self.pooling)
            with CodesFile.open(self.cache) as file:
                self.provenance_ = file.provenance
        else:
            from cnncodes.extraction.kept_network import forget_network
            from cnncodes.extraction.settings import describe_network

            forget_network(self)  # its weights may have been trained further
            self.provenance_ = describe_network(self._network())
        layers = self.provenance_.layers
        self._widths = [layers[name].n_features for name in self._layers()]
        self.n_features_out_ = sum(self._widths)
        return codes

    def transform(self, X: Images) -> np.ndarray:
        """Return the codes of images, each the mean over the views of its image.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8
            Images; also a Series or a one-column frame of paths, or an `ImageSet`. Arrays: (n, H, W, 3) or (n, H, W).

        Returns
        -------
        ndarray of float32, shape (n, n_features_out_)
            Row i belongs to image i.

        Raises
        ------
        ImagesError
            An image cannot be read: a row cannot be left out here.
        MismatchError
            The backbone has other weights now than in `fit`.
        """
        check_is_fitted(self)
        return averaged(self._codes(X))

    def _codes(self, X: Images) -> np.ndarray:
        """Return the codes of images, shape (n, n_features_out_) or (n, n_views, n_features_out_)."""
        images = self._load_images(X)
        if self.cache is not None:
            return self._cached(images, self.pooling or self.provenance_.pooling)
        from cnncodes.extraction.in_memory import in_memory

        network = self._network()
        if (sha256 := network.backbone.weights_sha256) != self.provenance_.weights_sha256:
            raise MismatchError(
                f"the weights of {self.backbone} are other ones now than in fit: their SHA-256 is {sha256[:16]}…, it "
                f"was {self.provenance_.weights_sha256[:16]}…; give the former ones, or fit again"
            )
        computed = in_memory(images, network, workers=self.workers)
        for row, reason in computed.failures.items():
            raise ImagesError(f"{images.ids[row]}: {reason}; leave this image out")
        return np.concatenate([computed.codes[name] for name in self._layers()], axis=-1)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the features: layer and number, as in ``layer3_17``.

        Parameters
        ----------
        input_features : ignored
            Here for scikit-learn's tools only.

        Returns
        -------
        ndarray of object, shape (n_features_out_,)
            Names, all of them str.
        """
        check_is_fitted(self)
        layers = self.provenance_.layers
        names = [f"{name}_{i}" for name in self._layers() for i in range(layers[name].n_features)]
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_out_")

    def _layers(self) -> tuple[str, ...]:
        layers = as_names(self.layer)
        if not layers:
            raise SettingError("layer is empty; name at least one")
        return layers

    def _settings(self, layers: tuple[str, ...] | None) -> Settings:
        from cnncodes.extraction.settings import Settings

        self._unpack_networks(self.backbone)
        return Settings(
            backbone=self.backbone,
            weights=None if self.weights is None else str(self.weights),
            layers=layers,
            pooling=self.pooling,
            image_size=self.image_size,
            resize=self.resize,
            views=self.views,
            precision=None if self.precision == AUTO else self.precision,
            device=None if self.device == AUTO else self.device,
            batch_size=self.batch_size,
            ignore_profiles=self.ignore_profiles,
            exact_decode=self.exact_decode,
        )

    def _cached(self, images: ImageSet, pooling: str | None) -> np.ndarray:
        from cnncodes.extraction.cache import cached_codes

        assert self.cache is not None
        settings = replace(self._settings(None), pooling=pooling)
        return cached_codes(Path(self.cache), images, self._layers(), settings, workers=self.workers, owner=self)

    def _network(self) -> FrozenNetwork:
        """Return the network, which is kept with the estimator, but neither cloned nor pickled with it."""
        from cnncodes.extraction.kept_network import ready_network

        return ready_network(self._settings(self._layers()), owner=self)
