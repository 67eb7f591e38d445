"""A fitted probe bound to the backbone that feeds it, and the file that holds it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from cnncodes.errors import MismatchError, ModelFileError
from cnncodes.evaluation import softmax
from cnncodes.images import ImageSet, load_images
from cnncodes.probes import CLASSIFIERS, SCALINGS, winner

if TYPE_CHECKING:
    from cnncodes.extraction import Computed

__all__ = ["Prediction", "ProbeModel"]

FORMAT = "cnncodes-model"
FORMAT_VERSION = 1
HEADER_KEYS = {  # name: type of the value in the JSON header
    "format": str,
    "format_version": int,
    "clf": str,
    "layers": list,
    "scale": str,
    "classes": list,
    "C": float,
    "temperature": float,
    "scores": dict,
    "description": dict,
    "trained_on": str,
    "notes": list,
}


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes
    ----------
    path : str
    label : str or None
        ``None`` where the image cannot be read.
    probability : float or None
    reason : str
        Why it cannot be read.
    """

    path: str
    label: str | None
    probability: float | None
    reason: str = ""


@dataclass(eq=False)
class ProbeModel:
    """A linear probe with its scaling, its classes, its scores and the description of what makes its codes.

    Attributes
    ----------
    clf : {"svm", "logreg"}
    layers : list of str
        Whose codes are concatenated.
    scale : {"standard", "l2", "none"}
    classes : list of str
    C : float
    mean, deviation : ndarray of float64, shape (n_features,)
        Of the training codes; 0 and 1 unless `scale` is ``"standard"``.
    coef : ndarray of float64, shape (k, n_features)
    intercept : ndarray of float64, shape (k,)
        ``k`` is the number of classes, 1 for two classes.
    temperature : float
        What decision values are divided by before the softmax gives probabilities.
    scores : dict
        With the protocol by which they were found.
    description : dict
        Backbone, digest of its weights, preprocessing, layers, pooling, precision.
    trained_on : str
        SHA-256 of the sorted digests of the training images.
    notes : list of str
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
    scores: dict[str, Any]
    description: dict[str, Any]
    trained_on: str = ""
    notes: list[str] = field(default_factory=list)

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return decision values, shape (n, k), of codes of shape (n, n_features).

        ``((x - mean) / deviation) @ coef.T + intercept``: centred first, or a tiny deviation would cost precision.
        """
        X = np.asarray(X, np.float64)
        if X.ndim != 2 or X.shape[1] != self.coef.shape[1]:
            expected = f"(n, {self.coef.shape[1]}), the codes of {' + '.join(self.layers)}"
            raise ModelFileError(f"the codes have shape {X.shape}, expected {expected}")
        if self.scale == "l2":
            X = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(float).tiny)
        return ((X - self.mean) / self.deviation) @ self.coef.T + self.intercept

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return labels, shape (n,), of codes of shape (n, n_features)."""
        return np.array(self.classes)[winner(self.decision_function(X))]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities, shape (n, n_classes), of codes of shape (n, n_features).

        Logistic regression's own; for a linear SVM a softmax whose temperature was fitted to out-of-fold decisions.
        """
        return softmax(self.decision_function(X), self.temperature)

    def predict_images(
        self,
        images: Any,
        *,
        device: str | None = None,
        workers: int | None = None,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> list[Prediction]:
        """Label images, by the very weights, preprocessing and layers that the model was fitted with.

        Parameters
        ----------
        images : path, sequence, ndarray or ImageSet
            Any folder, file, manifest, or what `load_images` takes.
        device : str, optional
            Another device than that of the training codes.
        workers : int, optional
        progress : callable, optional
            Called with (done, total, failed).

        Returns
        -------
        list of Prediction
            In the order of the images; one that cannot be read has no label.

        Raises
        ------
        ImagesError
            There are no images.
        MismatchError
            The weights that are found here are not those the model was fitted with.
        """
        image_set = load_images(images, labelled=False)
        computed = self.compute_codes(image_set, device=device, workers=workers, progress=progress)
        answers = {row: Prediction(image_set.ids[row], None, None, why) for row, why in computed.failures.items()}
        chances = self.predict_proba(self.concatenated(computed.codes))
        for row, of_image in zip(computed.rows.tolist(), chances, strict=True):
            best = int(of_image.argmax())
            answers[row] = Prediction(image_set.ids[row], self.classes[best], float(of_image[best]))
        return [answers[row] for row in range(len(image_set))]

    def compute_codes(self, images: ImageSet, **options: Any) -> Computed:
        """Compute the codes that the model takes; `options` are those of `cnncodes.extraction.compute_codes`."""
        from cnncodes.extraction import compute_codes

        layers = {name: self.description["layers"][name] for name in self.layers}
        return compute_codes(images, {**self.description, "layers": layers, "links": {}}, **options)

    def concatenated(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the codes of the model's layers side by side, shape (n, n_features)."""
        return np.hstack([codes[name] for name in self.layers])

    def check_codes(self, description: Mapping[str, Any], name: str) -> None:
        """Raise `MismatchError` where codes of this description are not those that the model was fitted with."""
        fields = ("backbone", "weights_sha256", "preprocessing", "pooling", "precision")
        differences = [
            f"{field} is {description.get(field)!r} there and {self.description.get(field)!r} in the model"
            for field in fields
            if description.get(field) != self.description.get(field)
        ]
        differences += [f"layer {layer!r} is not there" for layer in self.layers if layer not in description["layers"]]
        if differences:
            raise MismatchError(
                f"{name} does not fit the model: {'; '.join(differences)}. "
                "Use codes that were made like those that the model was fitted on"
            )

    def to_sklearn(self) -> Pipeline:
        """Return the scaling and the classifier as a fitted scikit-learn pipeline, which takes codes."""
        n_features = self.coef.shape[1]
        scaler: Any = {"standard": StandardScaler, "l2": Normalizer, "none": FunctionTransformer}[self.scale]()
        if self.scale == "standard":
            scaler.mean_, scaler.scale_, scaler.var_ = self.mean.copy(), self.deviation.copy(), self.deviation**2
            scaler.n_samples_seen_ = np.int64(self.scores.get("n", 0))
        scaler.n_features_in_ = n_features
        classifier = CLASSIFIERS[self.clf](C=self.C)
        classifier.coef_, classifier.intercept_ = self.coef.copy(), self.intercept.copy()
        classifier.classes_ = np.array(self.classes)
        classifier.n_features_in_ = n_features
        return make_pipeline(scaler, classifier)

    def info(self) -> dict[str, Any]:
        """Return what the model is and where it came from, ready for JSON."""
        about = {name: value for name, value in self.description.items() if name not in ("layers", "links")}
        shown = ("clf", "layers", "scale", "classes", "C", "temperature", "scores", "trained_on")
        return {**{name: getattr(self, name) for name in shown}, **about}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file: beside `path`, read back and compared, then renamed to it.

        Raises
        ------
        ModelFileError
            It cannot be written, or does not read back as it is.
        """
        target = Path(path)
        header = {"format": FORMAT, "format_version": FORMAT_VERSION}
        header |= {name: getattr(self, name) for name in HEADER_KEYS if name not in header}
        # safetensors writes the memory of an array as it lies: one that is not C-contiguous would come back shuffled
        data = save(
            {name: np.ascontiguousarray(array, "<f8") for name, array in self._arrays().items()},
            metadata={FORMAT: json.dumps(header, ensure_ascii=False)},
        )
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if not self.same_as(ProbeModel.load(partial)):
                raise ModelFileError(f"{target}: what was written does not read back as it is; nothing was saved")
            os.replace(partial, target)
        except OSError as error:
            raise ModelFileError(
                f"{target}: cannot be written ({error.strerror}); choose another place with -o"
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ProbeModel:
        """Read a model file. It may come from anyone: nothing in it is run.

        Raises
        ------
        ModelFileError
            There is no such file, or it is not exactly a model file.
        """
        path = Path(path)
        if not path.is_file():
            raise ModelFileError(f"{path}: no such model file; make one with `cnncodes fit -o {path.name}`")
        try:
            with safe_open(path, framework="np") as file:
                header = json.loads((file.metadata() or {})[FORMAT])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(**_checked(header, arrays))
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from error
        except (
            SafetensorError,
            OSError,
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
            OverflowError,
        ) as error:
            raise ModelFileError(f"{path}: not a model file, or damaged ({type(error).__name__}: {error})") from error

    def same_as(self, other: ProbeModel) -> bool:
        """Whether two models are equal, bit by bit."""
        mine, theirs = self._arrays(), other._arrays()
        return all(np.array_equal(mine[name], theirs[name]) for name in mine) and all(
            json.dumps(getattr(self, name)) == json.dumps(getattr(other, name))
            for name in HEADER_KEYS
            if not name.startswith("format")
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in ("mean", "deviation", "coef", "intercept")}


def _checked(header: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the fields of a model, or raise `ModelFileError` where anything is not as it is written."""

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise ModelFileError(f"not a model file, or damaged: {what}")

    require(isinstance(header, dict) and header.get("format") == FORMAT, "another format")
    require(header.get("format_version") == FORMAT_VERSION, f"format version {header.get('format_version')!r}")
    require(set(header) == set(HEADER_KEYS), "other header fields")
    for name, kind in HEADER_KEYS.items():
        require(type(header[name]) is kind, f"{name} is no {kind.__name__}")
    require(header["clf"] in CLASSIFIERS and header["scale"] in SCALINGS, "unknown classifier or scaling")
    layers, classes = header["layers"], header["classes"]
    require(all(isinstance(item, str) for item in [*layers, *classes, *header["notes"]]), "names that are no text")
    require(len(set(classes)) == len(classes) >= 2 and len(layers) >= 1, "too few or repeated names")
    require(0 < header["C"] < np.inf and 0 < header["temperature"] < np.inf, "C or temperature out of range")
    widths = [header["description"]["layers"][name]["n_features"] for name in layers]
    require(all(type(width) is int and width > 0 for width in widths), "code lengths")
    k = 1 if len(classes) == 2 else len(classes)
    shapes = {"mean": (sum(widths),), "deviation": (sum(widths),), "coef": (k, sum(widths)), "intercept": (k,)}
    require(set(arrays) == set(shapes), "other arrays")
    for name, shape in shapes.items():
        array = arrays[name]
        require(array.dtype == np.float64 and array.shape == shape, f"{name} is {array.dtype} {array.shape}")
        require(bool(np.isfinite(array).all()), f"{name} is not finite")
    require(bool((arrays["deviation"] > 0).all()), "a deviation is not positive")
    return {**{name: header[name] for name in HEADER_KEYS if not name.startswith("format")}, **arrays}
