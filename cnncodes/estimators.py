"""scikit-learn estimators that take images: `CNNCodes` makes codes of them, `CNNCodesClassifier` labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from cnncodes.codes.views import averaged
from cnncodes.errors import ImagesError, SettingError
from cnncodes.images.labels import check_labels, remarks_on
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.probes.calibration import softmax
from cnncodes.probes.probe import decide, winner
from cnncodes.probes.search import fit_probe
from cnncodes.vocabulary import (
    AUTO,
    CLASSIFIERS,
    NO_VIEWS,
    POOLINGS,
    PRECISIONS,
    RESIZE_MODES,
    SCALINGS,
    VIEWS,
    as_names,
)

__all__ = ["CNNCodes", "CNNCodesClassifier"]

logger = logging.getLogger(__name__)

POSITIVE = Interval(Integral, 1, None, closed="left")


class _ImageEstimator(BaseEstimator):
    """What both estimators share: parameters that name a network, and images as input."""

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
    }

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True  # images are validated by load_images
        return tags


class CNNCodes(TransformerMixin, _ImageEstimator):
    """Turn images into the codes of a frozen, pretrained network.

    Parameters
    ----------
    backbone : str, default "mobilenet_v2"
        A name from ``cnncodes backbones``.
    layer : str or sequence of str, default "penultimate"
        Several layers are concatenated.
    weights : str or Path, optional
        A name of weights, or a file; by default those of the backbone's first choice.
    pooling : {"avg", "max", "gem", "grid2", "flatten"}, default "avg"
    image_size : int, optional
        Side in pixels of the square that enters the network; by default that of the weights.
    resize : {"crop", "pad", "squash"}, default "crop"
    views : {"none", "flip", "10crop"}, default "none"
        Of an image and its mirror image, or of ten crops of both, `transform` returns the mean of the codes. A linear
        classifier's score of that is the mean of its scores of the views.
    precision : {"auto", "fp32", "bf16", "fp16"}, default "auto"
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default "auto"
    batch_size : int, optional
    workers : int, optional
        Threads; one a core by default.
    cache : path, optional
        A codes file, made by ``cnncodes extract`` or here. What it has is not computed again: images are found by
        their content, and the default layers are kept beside the one asked for, so that a search over ``layer`` runs
        each image once.

    Attributes
    ----------
    n_features_out_ : int
        Code length.
    description_ : dict
        Provenance of the codes: backbone, digest of the weights, preprocessing, layers, versions.

    Examples
    --------
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
        pooling: str = "avg",
        image_size: int | None = None,
        resize: str = "crop",
        views: str = NO_VIEWS,
        precision: str = AUTO,
        device: str = AUTO,
        batch_size: int | None = None,
        workers: int | None = None,
        cache: str | Path | None = None,
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

    def fit(self, X: Any, y: Any = None) -> CNNCodes:
        """Find out the code length; nothing is learned from the images.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8, shape (n, H, W, 3) or (n, H, W)
        y : ignored

        Returns
        -------
        self
        """
        self._validate_params()
        images = _images(X)
        if self.cache is not None:
            from cnncodes.codes.file import CodesFile

            self._cached(images)
            with CodesFile.open(self.cache) as file:
                self.description_ = file.description
        else:
            from cnncodes.extraction.settings import describe_network

            self.description_ = describe_network(self._build())
        lengths = {name: layer["n_features"] for name, layer in self.description_["layers"].items()}
        self.n_features_out_ = sum(lengths[name] for name in self._layers())
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the codes of images, the mean over their views.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8, shape (n, H, W, 3) or (n, H, W)

        Returns
        -------
        ndarray of float32, shape (n, n_features_out_)

        Raises
        ------
        ImagesError
            An image cannot be read: a row cannot be left out here.
        """
        check_is_fitted(self)
        return averaged(self._codes(X))

    def _codes(self, X: Any) -> np.ndarray:
        """Return the codes of images, shape (n, n_features_out_) or (n, n_views, n_features_out_)."""
        images = _images(X)
        if self.cache is not None:
            return self._cached(images)
        from cnncodes.extraction.in_memory import in_memory

        computed = in_memory(images, getattr(self, "_network", None) or self._build(), workers=self.workers)
        for row, reason in computed.failures.items():
            raise ImagesError(f"{images.ids[row]}: {reason}; leave this image out")
        return np.concatenate([computed.codes[name] for name in self._layers()], axis=-1)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features: layer and number, as in ``layer3_17``; `input_features` is ignored."""
        check_is_fitted(self)
        layers = self.description_["layers"]
        names = [f"{name}_{i}" for name in self._layers() for i in range(layers[name]["n_features"])]
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_out_")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_network"}

    def _layers(self) -> tuple[str, ...]:
        layers = as_names(self.layer)
        if not layers:
            raise SettingError("layer is empty; name at least one")
        return layers

    def _settings(self, layers: tuple[str, ...] | None) -> Any:
        from cnncodes.extraction.settings import Settings

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
        )

    def _cached(self, images: ImageSet) -> np.ndarray:
        from cnncodes.extraction.cache import cached_codes

        assert self.cache is not None
        return cached_codes(Path(self.cache), images, self._layers(), self._settings(None), workers=self.workers)

    def _build(self) -> Any:
        from cnncodes.extraction.settings import build_network

        self._network = build_network(self._settings(self._layers()))
        return self._network


class CNNCodesClassifier(ClassifierMixin, _ImageEstimator):
    """Label images with a linear classifier on the codes of a frozen, pretrained network.

    Parameters
    ----------
    backbone, layer, weights, pooling, image_size, resize, precision, device, batch_size, workers, cache
        As for `CNNCodes`.
    views : {"none", "flip", "10crop"}, default "none"
        All views of an image are trained on, and an image is labelled by the sum of their scores.
    clf : {"svm", "logreg"}, default "svm"
    C : float or "auto", default "auto"
        ``"auto"`` searches 45 values from 1e-6 to 1e5 by cross-validation.
    scale : {"standard", "l2", "none"}, default "standard"
    class_weight : {"balanced"} or dict, optional
    cv : int, default 5
        Folds of that cross-validation.
    random_state : int, default 0
        Seed of the folds.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    C_ : float
        What was given or chosen.
    cv_accuracy_ : float
        Of the out-of-fold predictions for that C.
    codes_ : CNNCodes
    probe_ : Pipeline
        Scaling and classifier, fitted on the codes.
    temperature_ : float
        What decision values are divided by before the softmax gives probabilities.

    Examples
    --------
    >>> classifier = CNNCodesClassifier(layer="layer3").fit(paths, y)  # doctest: +SKIP
    >>> classifier.predict_proba(["new.jpg"])  # doctest: +SKIP
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_ImageEstimator._parameter_constraints,
        "clf": [StrOptions(set(CLASSIFIERS))],
        "C": [StrOptions({AUTO}), Interval(Real, 0, None, closed="neither")],
        "scale": [StrOptions(set(SCALINGS))],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "random_state": [Integral],
    }

    def __init__(
        self,
        backbone: str = "mobilenet_v2",
        *,
        layer: str | Sequence[str] = "penultimate",
        clf: str = "svm",
        C: float | str = AUTO,
        scale: str = "standard",
        class_weight: Any = None,
        cv: int = 5,
        random_state: int = 0,
        weights: str | Path | None = None,
        pooling: str = "avg",
        image_size: int | None = None,
        resize: str = "crop",
        views: str = NO_VIEWS,
        precision: str = AUTO,
        device: str = AUTO,
        batch_size: int | None = None,
        workers: int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.clf = clf
        self.C = C
        self.scale = scale
        self.class_weight = class_weight
        self.cv = cv
        self.random_state = random_state
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

    def fit(self, X: Any, y: Any) -> CNNCodesClassifier:
        """Compute codes, choose C, fit the probe.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8, shape (n, H, W, 3) or (n, H, W)
        y : array-like, shape (n,)
            A class for each image: text, or integers.

        Returns
        -------
        self

        Raises
        ------
        LabelsError
            An image has no label, or labels are of several types or of another number. It is a `ValueError`.
        """
        self._validate_params()
        images = _images(X)
        check_labels(y, len(images))
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        shared = CNNCodes().get_params()
        self.codes_ = CNNCodes(**{name: getattr(self, name) for name in shared})
        codes = self.codes_.fit(images)._codes(images)
        self.probe_, search = fit_probe(
            codes,
            y,
            clf=self.clf,
            C=self.C,
            scale=self.scale,
            class_weight=self.class_weight,
            cv=self.cv,
            seed=self.random_state,
        )
        for note in [*remarks_on(map(str, y)), *search.notes]:
            logger.warning("%s", note)
        self.classes_ = search.classes
        self.C_ = search.C
        self.cv_accuracy_ = float(np.mean(search.predictions == y))
        self.temperature_ = search.temperature
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on images.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8, shape (n, H, W, 3) or (n, H, W)
        y : array-like, shape (n,)
            The right label of each image.
        sample_weight : array-like, shape (n,), optional
            Weights of the images.

        Raises
        ------
        LabelsError
            As for `fit`.
        """
        images = _images(X)
        check_labels(y, len(images))
        return super().score(images, y, sample_weight)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return decision values of images, shape (n, n_classes), or (n,) for two classes."""
        decision = self._decide(X)
        return decision[:, 0] if decision.shape[1] == 1 else decision

    def predict(self, X: Any) -> np.ndarray:
        """Return labels of images, shape (n,)."""
        best = winner(self._decide(X))
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of images, shape (n, n_classes), in the order of `classes_`."""
        decision = self._decide(X)
        return softmax(decision, self.temperature_)

    def _decide(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return decide(self.probe_, self.codes_._codes(X))


def _images(X: Any) -> ImageSet:
    if hasattr(X, "to_numpy"):  # a pandas column of paths
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.dtype.kind in "OU":
        X = X.tolist()
    return load_images(X)
