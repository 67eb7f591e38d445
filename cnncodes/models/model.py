"""A fitted probe bound to the backbone that feeds it: from images to answers, saved to a file and loaded from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.models.linear_probe import LinearProbe
from cnncodes.models.model_content import attributes_of, content_of
from cnncodes.models.model_file import read_model, same_model, write_model
from cnncodes.models.prediction import Prediction, make_predictions, require_probability
from cnncodes.probes.decision_values import softmax, winner
from cnncodes.system.imports import import_torch
from cnncodes.system.progress import Progress

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from cnncodes.extraction.in_memory import Computed
    from cnncodes.models.explanation import Explanation

__all__ = ["ProbeModel"]


class ProbeModel(LinearProbe):
    """A linear probe with its scaling, its classes, its scores and the provenance of its codes.

    Attributes
    ----------
    clf : {"svm", "logreg"}
        Linear SVM or logistic regression.
    layers : list of str
        Layers whose codes are concatenated.
    scale : {"shrunk", "standard", "l2", "none"}
        Scaling of the codes, as for `fit`.
    classes : list of str
        Names of the classes, sorted.
    C : float
        Inverse strength of the penalty.
    mean, deviation : ndarray of float64, shape (n_features,)
        What is taken from codes, and what they are then divided by: with ``"standard"`` the mean and the deviation of
        the training codes, with ``"shrunk"`` those of rows whose layers have length 1; otherwise 0 and 1.
    coef : ndarray of float64, shape (k, n_features)
        Weights of the scaled features; ``k`` is the number of classes, 1 for two classes.
    intercept : ndarray of float64, shape (k,)
        Constants of the decision values.
    temperature : float
        Decision values are divided by it before the softmax gives probabilities.
    scores : Scores
        How good the model is, and how that was found.
    provenance : Provenance
        Backbone, digest of its weights, preprocessing, layers, pooling, precision.
    trained_on : str
        The first 8 bytes of the SHA-256 of each training image, sorted, as hexadecimal text.
    notes : list of str
        Remarks on the fit.
    training_codes : ndarray of float16, shape (m, n_features), optional
        Training codes that new codes are compared with: not scaled, each of length 1, a sample where there are many.
    familiarity : ndarray of float64, shape (m,), optional
        How close training codes are to those of other folds, sorted; see `cnncodes.probes.novelty.closeness`. Of a
        fine-tuned model there may be fewer. In older model files it is the cosine to the nearest class mean.
    class_means : ndarray of float64, shape (n_classes, n_features), optional
        Means of `training_codes`; in older model files, which have none, of the scaled training codes.
    tuned : Tuned, optional
        How the network was fine-tuned; ``None`` where it is as its weights are.
    tensors : dict of str to ndarray of float32
        Fine-tuned parameters of the network, which take the place of those of its weights, by their names there.
    answered : Answered, optional
        Out-of-fold answers of a fine-tuned model to its training images: its cross-validated scores are theirs.

    Examples
    --------
    >>> model = ProbeModel.load("model.safetensors")  # doctest: +SKIP
    >>> [one.label for one in model.predict_images("new/")]  # doctest: +SKIP
    ['daisy', 'tulip']
    """

    def predict_images(
        self,
        images: Images,
        *,
        min_confidence: float = 0.0,
        allow_outside: bool = False,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Label images, by the very weights, preprocessing and layers that the model was fitted with.

        Parameters
        ----------
        images, min_confidence, allow_outside, weights, device, workers, progress
            As for `predict`, which loads the model from its file.

        Returns
        -------
        list of Prediction
            In the order of the images; one that cannot be read has no label.

        Raises
        ------
        ImagesError, MismatchError, SettingError
            As for `predict`.
        """
        require_probability(min_confidence)
        image_set = load_images(images, labelled=False, allow_outside=allow_outside)
        computed = self.compute_codes(image_set, weights=weights, device=device, workers=workers, progress=progress)
        X = self.concatenated(computed.codes)
        decision = self.decision_function(X)
        best = winner(decision)
        guesses = [self.classes[i] for i in best.tolist()]
        probabilities = softmax(decision, self.temperature)[np.arange(len(best)), best]
        return make_predictions(image_set.ids, computed, guesses, probabilities, self.novelty(X), min_confidence)

    def compute_codes(
        self,
        images: ImageSet,
        *,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Computed:
        """Compute the codes that the model takes, by the network that the model was fitted with.

        The network is prepared at the first call, and kept as long as the model lives: for the next images it is ready.
        Threads share it; a copy of the model, or a pickled one, begins without it. Other weights or another device take
        the place of the network that was kept.

        Parameters
        ----------
        images : ImageSet
            Images, with or without labels.
        weights, device, workers, progress
            As for `predict`.

        Returns
        -------
        Computed
            Codes by layer; see `concatenated`.

        Raises
        ------
        MismatchError
            The weights that are found here are not those that the model was fitted with.
        """
        import_torch()
        from cnncodes.extraction.in_memory import compute_codes

        return compute_codes(
            images,
            self.provenance.only(self.layers),
            weights=weights,
            device=device,
            workers=workers,
            progress=progress,
            owner=self,
            tensors=self.tensors,
        )

    def explain(
        self,
        images: Images,
        *,
        label: str | None = None,
        against: str | None = None,
        allow_outside: bool = False,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Explanation]:
        """Return where in each image the answer comes from, for the images that can be read, in their order.

        A pooled code is a sum over places of a feature map, and the classifier is linear: its decision values are sums
        over the places, too. What is explained is how far that of a class is above the others. Images are read as the
        explanations are asked for.

        Parameters
        ----------
        images, allow_outside, weights, device, workers, progress
            As for `predict`.
        label : str, optional
            The class that is explained; by default the most probable one of each image.
        against : str, optional
            Why `label` rather than this class; by default rather than all others, by the mean of their values.

        Returns
        -------
        iterator of Explanation

        Raises
        ------
        BackboneError
            A layer of the model is neither a map, nor pooled by ``patches``, nor the mean of a map.
        SettingError
            There is no such class, or `against` stands without a `label`; or the views of the model are parts of an
            image.
        ImagesError, MismatchError
            As for `predict`.

        Examples
        --------
        >>> for one in model.explain("new/"):  # doctest: +SKIP
        ...     one.save(f"{one.path}.png")
        """
        import_torch()
        from cnncodes.models.explain import explain

        image_set = load_images(images, labelled=False, allow_outside=allow_outside)
        return explain(
            self,
            image_set,
            label=label,
            against=against,
            weights=weights,
            device=device,
            workers=workers,
            progress=progress,
        )

    def to_sklearn(self) -> Pipeline:
        """Return the scaling and the classifier as a fitted scikit-learn pipeline, which takes codes of a view each.

        The codes are those that `compute_codes` gives: of a fine-tuned model, those of its own network.

        Returns
        -------
        Pipeline
        """
        from cnncodes.models.pipeline import fitted_pipeline

        return fitted_pipeline(self)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model file: beside `path`, read back and compared, then renamed to it.

        Parameters
        ----------
        path : path
            A model file that is there is replaced.
        overwrite : bool, default=False
            Replace any other file, too.

        Raises
        ------
        CnnCodesError
            Another file is there, and stays as it is.
        ModelFileError
            It cannot be written, or does not read back as it is.
        """
        write_model(Path(path), *content_of(self), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ProbeModel:
        """Read a model file. It may come from anyone: nothing in it is run.

        A checksum finds damage; it does not say who made the file.

        Parameters
        ----------
        path : path
            A file that `save` or ``cnncodes fit`` wrote.

        Returns
        -------
        ProbeModel

        Raises
        ------
        ModelFileError
            There is no such file, or it is not exactly a model file.
        """
        return cls(**attributes_of(*read_model(Path(path))))

    def same_as(self, other: ProbeModel) -> bool:
        """Whether two models are equal, bit by bit.

        Parameters
        ----------
        other : ProbeModel
            The model to compare with.
        """
        return same_model(content_of(self), content_of(other))
