"""A fitted probe bound to the backbone that feeds it.

The module is longer than others because it is the one public class of its file format: each method is short, and half
of the lines are their documentation. What the methods need stands in modules of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes.provenance import Provenance
from cnncodes.codes.views import as_rows, averaged, summed
from cnncodes.errors import MismatchError, ShapeError
from cnncodes.images.image_set import Images
from cnncodes.images.loading import ImageSet, load_images
from cnncodes.models.answered import ANSWERED, Answered
from cnncodes.models.match import require_match
from cnncodes.models.model_file import (
    ARRAYS,
    FIELDS,
    NOVELTY_ARRAYS,
    SHORT_DIGEST,
    TENSOR,
    TUNED,
    read_model,
    same_model,
    write_model,
)
from cnncodes.models.novelty import novelty_by_blocks
from cnncodes.models.prediction import Prediction, make_predictions, require_probability
from cnncodes.models.scores import Scores
from cnncodes.models.tuned import Tuned
from cnncodes.neighbours.nearest import unit_parts, unit_rows
from cnncodes.probes.decision_values import softmax, winner
from cnncodes.system.imports import import_torch
from cnncodes.system.progress import Progress

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from cnncodes.extraction.in_memory import Computed
    from cnncodes.models.explanation import Explanation

__all__ = ["ProbeModel"]

BLOCK_ROWS = 8192  # rows scaled at a time, so that float64 copies stay small


@dataclass(eq=False)
class ProbeModel:
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

    clf: str
    layers: list[str]
    scale: str
    classes: list[str]
    C: float
    mean: np.ndarray
    deviation: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    temperature: float
    scores: Scores
    provenance: Provenance
    trained_on: str = ""
    notes: list[str] = field(default_factory=list)
    training_codes: np.ndarray | None = None
    familiarity: np.ndarray | None = None
    class_means: np.ndarray | None = None
    tuned: Tuned | None = None
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    answered: Answered | None = None

    def __repr__(self) -> str:
        tuned = "" if self.tuned is None else f", fine-tuned from {self.tuned.first!r}"
        accuracy = self.scores.cross_validated.accuracy.value
        return (
            f"ProbeModel({self.clf!r} on {' + '.join(self.layers)!r} of {self.provenance.backbone!r}{tuned}, "
            f"{len(self.classes)} classes, cross-validated accuracy {accuracy:.3f})"
        )

    def scaled(self, X: np.ndarray) -> np.ndarray:
        """Return codes as the classifier takes them: scaled, in float64.

        Parameters
        ----------
        X : ndarray, shape (n, n_features)
            Codes of one view of each image.

        Returns
        -------
        ndarray of float64, shape (n, n_features)
        """
        X = np.asarray(X, np.float64)
        if self.scale == "l2":
            X = unit_rows(X)
        elif self.scale == "shrunk":
            X = unit_parts(X, self._widths)
        return (X - self.mean) / self.deviation

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the decision values of codes: ``((x - mean) / deviation) @ coef.T + intercept``.

        Parameters
        ----------
        X : ndarray, shape (n, n_features) or (n, n_views, n_features)
            Codes of the model's layers, side by side; the values of an image's views are summed.

        Returns
        -------
        ndarray of float64, shape (n, k)
            ``k`` is the number of classes, 1 for two classes.

        Raises
        ------
        ShapeError
            The codes have another shape than those that the model was fitted with.
        """
        # Centred before the product: a tiny deviation would cost precision
        X = self._checked(X)
        rows = as_rows(X)
        out = np.empty((len(rows), len(self.coef)))
        for start in range(0, len(rows), BLOCK_ROWS):
            out[start : start + BLOCK_ROWS] = (
                self.scaled(rows[start : start + BLOCK_ROWS]) @ self.coef.T + self.intercept
            )
        return summed(out, X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the labels of codes.

        Parameters
        ----------
        X : ndarray, shape (n, n_features) or (n, n_views, n_features)
            Codes of the model's layers, side by side.

        Returns
        -------
        ndarray of str, shape (n,)

        Raises
        ------
        ShapeError
            The codes have another shape than those that the model was fitted with.
        """
        return np.array(self.classes)[winner(self.decision_function(X))]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class.

        The softmax has a temperature, which was fitted to out-of-fold decisions: logistic regression's own
        probabilities are not calibrated either, as a penalty that is good for the accuracy holds them back.

        Parameters
        ----------
        X : ndarray, shape (n, n_features) or (n, n_views, n_features)
            Codes of the model's layers, side by side.

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
            The columns are in the order of `classes`; each row sums to 1.

        Raises
        ------
        ShapeError
            The codes have another shape than those that the model was fitted with.

        References
        ----------
        Guo, Pleiss, Sun, Weinberger 2017, On calibration of modern neural networks (temperature scaling).
        """
        return softmax(self.decision_function(X), self.temperature)

    def novelty(self, X: np.ndarray) -> np.ndarray | None:
        """Return how unlike all classes each code looks, shape (n,), from 0 (familiar) to nearly 1 (none of them).

        It is the share of training images that look more familiar: that are closer to the three nearest training
        codes and to the nearest class mean, those of their own fold left out. So about 5 % of new images of the known
        classes get 0.95 or more. It does not depend on the classifier or its scaling.

        Parameters
        ----------
        X : ndarray, shape (n, n_features) or (n, n_views, n_features)
            Codes; those of an image's views are averaged.

        Returns
        -------
        ndarray, shape (n,), or None
            ``None`` where the model was saved before there was such a score.
        """
        X = averaged(self._checked(X))
        if self.class_means is None or self.familiarity is None:
            return None
        return novelty_by_blocks(X, self.scaled, self.training_codes, self.class_means, self.familiarity)

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

    def concatenated(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the codes of the model's layers side by side, as `decision_function` takes them.

        Parameters
        ----------
        codes : mapping of str to ndarray, shape (n, n_features) or (n, n_views, n_features)
            Codes by layer.

        Returns
        -------
        ndarray, shape (n, n_features) or (n, n_views, n_features)
        """
        return np.concatenate([codes[name] for name in self.layers], axis=-1)

    def check_codes(self, provenance: Provenance, name: str) -> None:
        """Refuse codes that were made otherwise than those that the model was fitted with.

        Parameters
        ----------
        provenance : Provenance
            How the codes were made.
        name : str
            Name of the codes in the error, such as the path of their file.

        Raises
        ------
        MismatchError
            Backbone, weights, preprocessing, pooling, precision or layers differ.
        """
        if self.tensors:
            raise MismatchError(
                f"{name} has codes of the network before it was fine-tuned, which do not fit the model; give the images"
            )
        require_match(self.provenance, self.layers, provenance, name)

    def to_sklearn(self) -> Pipeline:
        """Return the scaling and the classifier as a fitted scikit-learn pipeline, which takes codes of a view each.

        The codes are those that `compute_codes` gives: of a fine-tuned model, those of its own network.

        Returns
        -------
        Pipeline
        """
        from cnncodes.models.pipeline import fitted_pipeline

        return fitted_pipeline(
            clf=self.clf,
            C=self.C,
            scale=self.scale,
            widths=self._widths,
            classes=self.classes,
            n_samples=self.scores.n,
            **{name: getattr(self, name) for name in ARRAYS},
        )

    @property
    def about(self) -> dict[str, Any]:
        """``clf``, ``layers`` and ``C``; if it is fine-tuned, also ``tuned_from``, the first part that was trained."""
        about = {name: getattr(self, name) for name in ("clf", "layers", "C")}
        return about if self.tuned is None else about | {"tuned_from": self.tuned.first}

    def info(self) -> dict[str, Any]:
        """Return what the model is and where it came from, ready for JSON."""
        shown = ("clf", "layers", "scale", "classes", "C", "temperature")
        return {
            **{name: getattr(self, name) for name in shown},
            **({} if self.tuned is None else {TUNED: self.tuned.to_dict() | {"parameters": self._n_tuned}}),
            "scores": self.scores.to_dict(),
            **self.provenance.facts(),
        }

    def was_trained_on(self, sha256: np.ndarray) -> np.ndarray:
        """Return which images the model was fitted on.

        Parameters
        ----------
        sha256 : ndarray of uint8, shape (n, 32)
            SHA-256 of the images.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        digests = {self.trained_on[i : i + SHORT_DIGEST] for i in range(0, len(self.trained_on), SHORT_DIGEST)}
        return np.array([row.tobytes().hex()[:SHORT_DIGEST] in digests for row in sha256], bool)

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
        write_model(Path(path), self._fields(), self._arrays(), overwrite=overwrite)

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
        fields, arrays = read_model(Path(path))
        provenance = Provenance.from_dict(fields.pop("description"))
        fields["scores"] = Scores.from_dict(fields["scores"])
        if TUNED in fields:
            fields[TUNED] = Tuned.from_dict(fields[TUNED])
        names = [name for name in arrays if name.startswith(TENSOR)]
        tensors = {name.removeprefix(TENSOR): arrays.pop(name) for name in names}
        answers = {name: arrays.pop(name) for name in ANSWERED if name in arrays}
        answered = Answered.from_arrays(answers, len(fields["classes"])) if answers else None
        return cls(**fields, provenance=provenance, tensors=tensors, answered=answered, **arrays)

    def same_as(self, other: ProbeModel) -> bool:
        """Whether two models are equal, bit by bit.

        Parameters
        ----------
        other : ProbeModel
            The model to compare with.
        """
        return same_model((self._fields(), self._arrays()), (other._fields(), other._arrays()))

    def _fields(self) -> dict[str, Any]:
        special = {"description": self.provenance.to_dict(), "scores": self.scores.to_dict()}
        fields = {name: special[name] if name in special else getattr(self, name) for name in FIELDS}
        return fields if self.tuned is None else fields | {TUNED: self.tuned.to_dict()}

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: getattr(self, name) for name in (*ARRAYS, *NOVELTY_ARRAYS)}
        tensors = {f"{TENSOR}{name}": array for name, array in self.tensors.items()}
        answered = {} if self.answered is None else self.answered.arrays()
        return {name: array for name, array in arrays.items() if array is not None} | tensors | answered

    def _checked(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X)
        shape = (*self.provenance.preprocessing.middle_axis, self.coef.shape[1])
        if X.shape[1:] != shape:
            expected = f"(n, {', '.join(map(str, shape))}), the codes of {' + '.join(self.layers)}"
            raise ShapeError(f"the codes have shape {X.shape}, expected {expected}")
        return X

    @property
    def _n_tuned(self) -> int:
        """Number of fine-tuned parameters of the network."""
        return sum(array.size for array in self.tensors.values())

    @property
    def _widths(self) -> list[int]:
        return [self._width(layer) for layer in self.layers]

    def _width(self, layer: str) -> int:
        return self.provenance.layers[layer].n_features
