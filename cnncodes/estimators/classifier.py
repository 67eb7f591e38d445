"""Labels images by their codes: `CNNCodesClassifier`, a scikit-learn classifier.

The module is longer than others because it is one public class: half of the lines are its documentation.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from cnncodes.estimators.folding import Splitter, folding_of
from cnncodes.estimators.image_estimator import ImageEstimator
from cnncodes.estimators.transformer import CNNCodes
from cnncodes.estimators.tuning import check_tuning, decide_images, tune, tuned_model
from cnncodes.estimators.weights import image_weights
from cnncodes.images.image_set import Images
from cnncodes.images.labels import check_labels, remarks_on
from cnncodes.probes.decision_values import softmax, winner
from cnncodes.probes.probe import decide
from cnncodes.probes.scaling import scaling_of
from cnncodes.probes.search import fit_probe
from cnncodes.vocabulary import AUTO, CLASSIFIERS, DEFAULT_SCALING, NO_VIEWS, SCALINGS

__all__ = ["CNNCodesClassifier"]

logger = logging.getLogger(__name__)


class CNNCodesClassifier(ClassifierMixin, ImageEstimator):
    """Label images with a linear classifier on the codes of a frozen, pretrained network.

    Parameters
    ----------
    backbone : str, default="mobilenet_v2"
        Name of the network; ``cnncodes backbones`` lists them.
    layer : str or sequence of str, default="penultimate"
        Layer whose codes are classified; the codes of several layers are concatenated.
    clf : {"svm", "logreg"}, default="svm"
        Linear SVM with squared hinge loss, or logistic regression.
    C : float or "auto", default="auto"
        Inverse strength of the penalty. ``"auto"`` searches 45 values from 1e-6 to 1e5, from coarse to
        fine, by cross-validation.
    scale : {"shrunk", "standard", "l2", "none"}, default="shrunk"
        Scaling of the codes, as for `fit`.
    class_weight : {"balanced"} or dict, optional
        Weight of each class; ``"balanced"`` weighs rare classes more. By default all images weigh the same.
    cv : int, splitter or iterable, default=5
        Number of folds of the cross-validation; or a splitter of scikit-learn, or pairs of row numbers to fit to and to
        hold out, which hold each image out once.
    random_state : int, RandomState instance or None, default=0
        Seed of the shuffle into folds, where `cv` is a number; the same seed gives the same score.
    finetune : str, optional
        The first part of the network that is trained further, from the fitted probe on, with all above it, as
        ``"layer4"``, ``"head"`` or ``"all"``; see `finetune`. It is kept unless the probe does better on the folds.
        Each fit computes the maps that enter that part from the images, and holds them in memory.
    weights : str or Path, optional
        As for `CNNCodes`, like the parameters that follow.
    pooling : {"avg", "max", "gem", "grid2", "flatten", "cls", "patches", "cls+patches"}, optional
        How a feature map becomes a vector. By default the mean, or what suits a network of tokens.
    image_size : int, optional
        Side in pixels of the square that enters the network.
    resize : {"crop", "pad", "squash"}, default="crop"
        How an image becomes square.
    views : {"none", "flip", "10crop"}, default="none"
        Views of an image. All of them are trained on, and an image is labelled by the sum of their scores.
    precision : {"auto", "fp32", "bf16", "fp16"}, default="auto"
        Precision of the network.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where the network runs.
    batch_size : int, optional
        Images that run through the network at a time.
    workers : int, optional
        Threads that decode and compute.
    cache : path, optional
        A codes file. Codes that it holds are not computed again.
    ignore_profiles : bool, default=False
        Whether embedded colour profiles are ignored, or colours converted to sRGB.
    exact_decode : bool, default=False
        Whether JPEG is decoded at full size and resized with Pillow, as by the weights' own transform.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels, sorted.
    C_ : float
        The C that was given or chosen.
    cv_accuracy_ : float
        Accuracy of the out-of-fold predictions for that C, by the fine-tuned network where that is kept.
    codes_ : CNNCodes
        The transformer that makes the codes of the frozen network.
    probe_ : Pipeline
        Scaling and classifier, fitted to these codes. A fine-tuned network labels images without it.
    finetuning_ : Finetuning or None
        What fine-tuning came to: whether it pays, its gain with an interval, `answer` in words, and the model, which
        can be saved. None without it.
    temperature_ : float
        Divisor of the decision values before the softmax that gives probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> black, white = np.zeros((4, 32, 32), np.uint8), np.full((4, 32, 32), 255, np.uint8)
    >>> classifier = CNNCodesClassifier(layer="layer1", C=1.0, cv=2)
    >>> classifier.fit(np.concatenate([black, white]), ["black"] * 4 + ["white"] * 4).predict(white[:2]).tolist()
    ['white', 'white']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImageEstimator._parameter_constraints,
        "clf": [StrOptions(set(CLASSIFIERS))],
        "C": [StrOptions({AUTO}), Interval(Real, 0, None, closed="neither")],
        "scale": [StrOptions(set(SCALINGS))],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
        "finetune": [str, None],
    }

    def __init__(
        self,
        backbone: str = "mobilenet_v2",
        *,
        layer: str | Sequence[str] = "penultimate",
        clf: str = "svm",
        C: float | str = AUTO,
        scale: str = DEFAULT_SCALING,
        class_weight: str | dict[str, float] | dict[int, float] | None = None,
        cv: Splitter = 5,
        random_state: int | np.random.RandomState | None = 0,
        finetune: str | None = None,
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
        self.clf = clf
        self.C = C
        self.scale = scale
        self.class_weight = class_weight
        self.cv = cv
        self.random_state = random_state
        self.finetune = finetune
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

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a pickled classifier; one of before there was fine-tuning has none."""
        super().__setstate__({"finetune": None, "finetuning_": None} | state)

    def fit(
        self, X: Images, y: ArrayLike, sample_weight: ArrayLike | None = None, *, groups: ArrayLike | None = None
    ) -> CNNCodesClassifier:
        """Compute codes, choose C, fit the probe; train the network further where that is asked for.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8
            Images; also a Series or a one-column frame of paths, or an `ImageSet`. Arrays: (n, H, W, 3) or (n, H, W).
        y : array-like, shape (n,)
            Label of each image: text, or integers.
        sample_weight : array-like, shape (n,), optional
            Weight of each image in the fits, as the classifiers of scikit-learn take it; an image whose weight is not
            positive is left out. The scaling and the choice of C count the others alike.
        groups : array-like, shape (n,), optional
            Groups of images that stay on one side of each fold.

        Returns
        -------
        CNNCodesClassifier
            The classifier itself.

        Raises
        ------
        ImagesError
            An image cannot be read.
        LabelsError
            An image has no label, or labels are of several types or of another number. It is a `ValueError`.
        SettingError, FoldsError
            `cv` does not suit the images, or `sample_weight` is not one finite number for each; or `finetune` does not
            go with another parameter.
        BackboneError
            The network has no such part as `finetune` names, or cannot be cut there.
        """
        self._validate_params()
        images = self._load_images(X)
        check_labels(y, len(images))
        labels: np.ndarray = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        weights = image_weights(sample_weight, len(images))
        rows = np.flatnonzero(weights > 0)
        folding = folding_of(self.cv, self.random_state, labels, groups, rows)
        images, labels = images.take(rows.tolist()), labels[rows]
        shared = CNNCodes().get_params()
        self.codes_ = CNNCodes(**{name: getattr(self, name) for name in shared})
        check_tuning(self, sample_weight)
        codes = self.codes_._fit_codes(images)
        self.probe_, search = fit_probe(
            codes,
            labels,
            clf=self.clf,
            C=self.C,
            scale=scaling_of(self.scale, self.codes_._widths),
            class_weight=self.class_weight,
            sample_weight=None if sample_weight is None else weights[rows],
            **folding,
        )
        for note in [*remarks_on(map(str, labels)), *search.notes]:
            logger.warning("%s", note)
        self.classes_ = search.classes
        self.C_ = search.C
        self.cv_accuracy_ = float(np.mean(search.predictions == labels))
        self.temperature_ = search.temperature
        self.finetuning_ = None if self.finetune is None else tune(self, images, labels, codes, search, groups)
        if (model := tuned_model(self.finetuning_)) is not None:
            self.cv_accuracy_ = model.scores.cross_validated.accuracy.value
            self.temperature_ = model.temperature
        return self

    def score(self, X: Images, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on images.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8
            Images; also a Series or a one-column frame of paths, or an `ImageSet`. Arrays: (n, H, W, 3) or (n, H, W).
        y : array-like, shape (n,)
            Label of each image: text, or integers.
        sample_weight : array-like, shape (n,), optional
            Weight of each image.

        Returns
        -------
        float
            Share of the images, or of their weight, that is labelled right.

        Raises
        ------
        LabelsError
            As for `fit`.
        """
        images = self._load_images(X)
        check_labels(y, len(images))
        return super().score(images, y, sample_weight)

    def decision_function(self, X: Images) -> np.ndarray:
        """Return the decision values of images.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8
            Images; also a Series or a one-column frame of paths, or an `ImageSet`. Arrays: (n, H, W, 3) or (n, H, W).

        Returns
        -------
        ndarray of float64, shape (n, n_classes), or (n,) for two classes
            The class with the largest value is the answer; for two classes, a positive value means the second.
        """
        decision = self._decide(X)
        return decision[:, 0] if decision.shape[1] == 1 else decision

    def predict(self, X: Images) -> np.ndarray:
        """Return the labels of images.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8
            Images; also a Series or a one-column frame of paths, or an `ImageSet`. Arrays: (n, H, W, 3) or (n, H, W).

        Returns
        -------
        ndarray, shape (n,)
            Labels, of the type that `fit` was given.
        """
        best = winner(self._decide(X))
        return self.classes_[best]

    def predict_proba(self, X: Images) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : sequence of paths, PIL images or arrays, or ndarray of uint8
            Images; also a Series or a one-column frame of paths, or an `ImageSet`. Arrays: (n, H, W, 3) or (n, H, W).

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
            Columns are in the order of `classes_`.
        """
        return softmax(self._decide(X), self.temperature_)

    def _decide(self, X: Images) -> np.ndarray:
        check_is_fitted(self)
        if (model := tuned_model(self.finetuning_)) is None:
            return decide(self.probe_, self.codes_._codes(X))
        self._unpack_networks(self.backbone)
        return decide_images(model, self._load_images(X), self.classes_, self.workers)
