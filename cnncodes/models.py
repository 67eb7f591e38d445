"""A fitted probe bound to the backbone that feeds it, and the file that holds it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from cnncodes.calibration import softmax
from cnncodes.errors import MismatchError, ModelFileError, ProbeError
from cnncodes.images import ImageSet, load_images
from cnncodes.novelty import MAX_REFERENCE, cosine_to_nearest, novelty
from cnncodes.probes import CLASSIFIERS, SCALINGS, winner
from cnncodes.replacing import sync_folder
from cnncodes.views import NO_VIEWS, VIEWS, as_rows, averaged, middle_axis, summed

if TYPE_CHECKING:
    from cnncodes.extraction import Computed

__all__ = ["Prediction", "ProbeModel", "begins_like_a_model", "digests_of"]

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
    "checksum": str,
}
FIELDS = [name for name in HEADER_KEYS if name not in ("format", "format_version", "checksum")]
DESCRIPTION_KEYS = {  # what is needed to make codes again; there may be more
    "backbone": str,
    "weights": str,
    "weights_sha256": str,
    "preprocessing": dict,
    "layers": dict,
    "pooling": str,
    "precision": str,
    "runtime": dict,
}
PREPROCESSING_KEYS = {
    "resize": int,
    "image_size": int,
    "interpolation": str,
    "mean": list,
    "std": list,
    "mode": str,
}
RUNTIME_KEYS = {"device": str, "batch_size": int}
SHA256 = re.compile(r"[0-9a-f]{64}")
SHORT_DIGEST = 16  # hexadecimal digits of an image's SHA-256: enough to know it again
DIGESTS = re.compile(f"(?:[0-9a-f]{{{SHORT_DIGEST}}})*")
MAX_BYTES = 8 << 30  # of a model file: 1,000 classes of 500,000 features
MAX_BATCH_BYTES = 2 << 30  # of pixels: what a model file may make the network take at once
ARRAYS = ("mean", "deviation", "coef", "intercept")
NOVELTY_ARRAYS = ("class_means", "familiarity")  # both are there, or neither: older model files have none
ROWS = 8192  # scaled at a time, so that float64 copies stay small


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes
    ----------
    path : str
    label : str or None
        ``None`` where the probability is below the least that was asked for, or the image cannot be read.
    probability : float or None
        Of `guess`.
    reason : str
        Why it cannot be read.
    novelty : float or None
        See `ProbeModel.novelty`.
    guess : str or None
        The most probable class, however unsure; ``None`` where the image cannot be read.
    """

    path: str
    label: str | None
    probability: float | None
    reason: str = ""
    novelty: float | None = None
    guess: str | None = None

    @property
    def status(self) -> str:
        """``"labelled"``, ``"unsure"`` (there is a guess, but no label) or ``"failed"`` (it cannot be read)."""
        if self.guess is None:
            return "failed"
        return "unsure" if self.label is None else "labelled"


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
        The first 8 bytes of the SHA-256 of each training image, sorted, as hexadecimal text.
    notes : list of str
    class_means : ndarray of float64, shape (n_classes, n_features), optional
        Of the scaled training codes.
    familiarity : ndarray of float64, shape (m,), optional
        Cosines between training codes and the nearest class mean without them, sorted.
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
    class_means: np.ndarray | None = None
    familiarity: np.ndarray | None = None

    def scaled(self, X: np.ndarray) -> np.ndarray:
        """Return codes as the classifier takes them: `X` of shape (n, n_features), scaled, in float64."""
        X = np.asarray(X, np.float64)
        if self.scale == "l2":
            X = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(float).tiny)
        return (X - self.mean) / self.deviation

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return decision values, shape (n, k), of codes of shape (n, n_features), or (n, n_views, n_features).

        ``((x - mean) / deviation) @ coef.T + intercept``: centred first, or a tiny deviation would cost precision. The
        values of an image's views are summed.
        """
        X = self._checked(X)
        rows = as_rows(X)
        out = np.empty((len(rows), len(self.coef)))
        for start in range(0, len(rows), ROWS):
            out[start : start + ROWS] = self.scaled(rows[start : start + ROWS]) @ self.coef.T + self.intercept
        return summed(out, X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return labels, shape (n,), of codes of the shape that `decision_function` takes."""
        return np.array(self.classes)[winner(self.decision_function(X))]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities, shape (n, n_classes), of codes of the shape that `decision_function` takes.

        A softmax whose temperature was fitted to out-of-fold decisions: logistic regression's own probabilities are not
        calibrated either, as a penalty that is good for the accuracy holds them back.
        """
        return softmax(self.decision_function(X), self.temperature)

    def novelty(self, X: np.ndarray) -> np.ndarray | None:
        """Return how unlike all classes each code looks, shape (n,), from 0 (familiar) to nearly 1 (none of them).

        It is the share of training images that look more familiar: whose cosine to the nearest class mean, which they
        had no part in, is larger. So of new images of the known classes about 5 % get 0.95 or more.

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
        cosines = np.empty(len(X))
        for start in range(0, len(X), ROWS):
            cosines[start : start + ROWS] = cosine_to_nearest(self.scaled(X[start : start + ROWS]), self.class_means)
        return novelty(cosines, self.familiarity)

    def predict_images(
        self,
        images: Any,
        *,
        min_confidence: float = 0.0,
        allow_outside: bool = False,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        workers: int | None = None,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> list[Prediction]:
        """Label images, by the very weights, preprocessing and layers that the model was fitted with.

        Parameters
        ----------
        images : path, sequence, ndarray or ImageSet
            Any folder, file, manifest, or what `load_images` takes.
        min_confidence : float
            From 0 to 1. An image whose best class is less probable gets no label; its `guess` names that class.
        allow_outside : bool
            Let a manifest name files outside its folder.
        weights : path, optional
            Where the weights file lies by now; it must be the one that the model was fitted with.
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
        ProbeError
            `min_confidence` is not from 0 to 1.
        """
        if not 0 <= min_confidence <= 1:
            raise ProbeError(f"min_confidence is {min_confidence}; it must be a probability, from 0 to 1")
        image_set = load_images(images, labelled=False, allow_outside=allow_outside)
        computed = self.compute_codes(image_set, weights=weights, device=device, workers=workers, progress=progress)
        answers = {row: Prediction(image_set.ids[row], None, None, why) for row, why in computed.failures.items()}
        X = self.concatenated(computed.codes)
        chances, strange = self.predict_proba(X), self.novelty(X)
        for i, (row, best) in enumerate(zip(computed.rows.tolist(), winner(self.decision_function(X)), strict=True)):
            guess, probability = self.classes[best], float(chances[i, best])
            answers[row] = Prediction(
                path=image_set.ids[row],
                label=guess if probability >= min_confidence else None,
                probability=probability,
                novelty=None if strange is None else float(strange[i]),
                guess=guess,
            )
        return [answers[row] for row in range(len(image_set))]

    def compute_codes(self, images: ImageSet, **options: Any) -> Computed:
        """Compute the codes that the model takes; `options` are those of `cnncodes.extraction.compute_codes`."""
        from cnncodes.extraction import compute_codes

        layers = {name: self.description["layers"][name] for name in self.layers}
        return compute_codes(images, {**self.description, "layers": layers, "links": {}}, **options)

    def concatenated(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the codes of the model's layers side by side, in the shape that `decision_function` takes."""
        return np.concatenate([codes[name] for name in self.layers], axis=-1)

    def check_codes(self, description: Mapping[str, Any], name: str) -> None:
        """Raise `MismatchError` where codes of this description are not those that the model was fitted with."""
        there, ours = _made_with(description), _made_with(self.description)
        differences = [
            f"{field} is {there.get(field)!r} there and {ours.get(field)!r} in the model"
            for field in dict.fromkeys([*ours, *there])
            if there.get(field) != ours.get(field)
        ]
        theirs = description["layers"]
        differences += [f"layer {layer!r} is not there" for layer in self.layers if layer not in theirs]
        differences += [
            f"{layer} has {theirs[layer]['n_features']} features there and {self._width(layer)} in the model"
            for layer in self.layers
            if layer in theirs and theirs[layer]["n_features"] != self._width(layer)
        ]
        if differences:
            raise MismatchError(
                f"{name} does not fit the model: {'; '.join(differences)}. "
                "Use codes that were made like those that the model was fitted on"
            )

    def to_sklearn(self) -> Pipeline:
        """Return the scaling and the classifier as a fitted scikit-learn pipeline, which takes codes of a view each."""
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
        shown = ("clf", "layers", "scale", "classes", "C", "temperature", "scores")
        return {**{name: getattr(self, name) for name in shown}, **about}

    def was_trained_on(self, sha256: np.ndarray) -> np.ndarray:
        """Whether the model was fitted on each of these images, shape (n,), given their digests, shape (n, 32)."""
        known = {self.trained_on[i : i + SHORT_DIGEST] for i in range(0, len(self.trained_on), SHORT_DIGEST)}
        return np.array([row.tobytes().hex()[:SHORT_DIGEST] in known for row in sha256], bool)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file: beside `path`, read back and compared, then renamed to it.

        Raises
        ------
        ModelFileError
            It cannot be written, or does not read back as it is.
        """
        target = Path(path)
        if target.is_file() and target.stat().st_size and not begins_like_a_model(target):
            raise ModelFileError(f"{target}: is there and no model file, so it stays as it is; choose another -o")
        header = {"format": FORMAT, "format_version": FORMAT_VERSION, **{name: getattr(self, name) for name in FIELDS}}
        # safetensors writes the memory of an array as it lies: one that is not C-contiguous would come back shuffled
        arrays = {name: np.ascontiguousarray(array, "<f8") for name, array in self._arrays().items()}
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            header["checksum"] = _checksum(header, arrays)
            data = save(arrays, metadata={FORMAT: json.dumps(header, ensure_ascii=False)})
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if not self.same_as(ProbeModel.load(partial)):
                raise ModelFileError(f"{target}: what was written does not read back as it is; nothing was saved")
            os.replace(partial, target)
            sync_folder(target.parent)
        except OSError as error:
            raise ModelFileError(
                f"{target}: cannot be written ({error.strerror}); choose another place with -o"
            ) from error
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"{target}: holds what JSON cannot ({error}); nothing was saved") from error
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ProbeModel:
        """Read a model file. It may come from anyone: nothing in it is run.

        A checksum finds damage; it does not say who made the file.

        Raises
        ------
        ModelFileError
            There is no such file, or it is not exactly a model file.
        """
        path = Path(path)
        if not path.is_file():
            raise ModelFileError(f"{path}: no such model file; make one with `cnncodes fit -o {path.name}`")
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ModelFileError(f"not a model file: it is larger than {MAX_BYTES >> 30} GiB")
            with safe_open(path, framework="np") as file:
                header = json.loads((file.metadata() or {})[FORMAT], parse_constant=_refuse_constant)
                shapes = _checked_header(header)
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            _check_arrays(arrays, shapes)
            _require(_checksum(header, arrays) == header["checksum"], "the checksum differs")
            return cls(**{name: header[name] for name in FIELDS}, **arrays)
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
            MemoryError,
        ) as error:
            raise ModelFileError(f"{path}: not a model file, or damaged ({type(error).__name__}: {error})") from error

    def same_as(self, other: ProbeModel) -> bool:
        """Whether two models are equal, bit by bit."""
        mine, theirs = self._arrays(), other._arrays()
        return (
            mine.keys() == theirs.keys()
            and all(np.array_equal(mine[name], theirs[name]) for name in mine)
            and all(json.dumps(getattr(self, name)) == json.dumps(getattr(other, name)) for name in FIELDS)
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: getattr(self, name) for name in (*ARRAYS, *NOVELTY_ARRAYS)}
        return {name: array for name, array in arrays.items() if array is not None}

    def _checked(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X)
        shape = (*middle_axis(self.description["preprocessing"]), self.coef.shape[1])
        if X.shape[1:] != shape:
            expected = f"(n, {', '.join(map(str, shape))}), the codes of {' + '.join(self.layers)}"
            raise ModelFileError(f"the codes have shape {X.shape}, expected {expected}")
        return X

    def _width(self, layer: str) -> int:
        return self.description["layers"][layer]["n_features"]


def digests_of(sha256: np.ndarray) -> str:
    """Return what `trained_on` holds: the first 8 bytes of each digest, shape (n, 32), sorted, as hexadecimal text."""
    return "".join(sorted(row.tobytes().hex()[:SHORT_DIGEST] for row in sha256))


def _made_with(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same for codes to fit a model."""
    fields = {name: description.get(name) for name in ("backbone", "weights_sha256", "pooling", "precision")}
    return fields | {f"preprocessing.{name}": value for name, value in description.get("preprocessing", {}).items()}


def begins_like_a_model(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like safetensors: a damaged model file does, too."""
    with Path(path).open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ModelFileError(f"not a model file, or damaged: {what}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _require_types(fields: Any, kinds: Mapping[str, type], where: str) -> None:
    """Require a value of exactly its type (a bool is no int) for each name."""
    for name, kind in kinds.items():
        _require(isinstance(fields, dict) and type(fields.get(name)) is kind, f"{where}{name} is no {kind.__name__}")


def _checksum(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of all that a model file says."""
    said = {name: value for name, value in header.items() if name != "checksum"}
    digest = hashlib.sha256(json.dumps(said, allow_nan=False).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} ".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _checked_header(header: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the arrays must have, or raise `ModelFileError` where anything is not as it is written."""
    _require(isinstance(header, dict) and header.get("format") == FORMAT, "another format")
    version = header.get("format_version")
    _require(version == FORMAT_VERSION, f"format version {version!r}, this is for {FORMAT_VERSION}")
    _require(set(header) == set(HEADER_KEYS), "other header fields")
    _require_types(header, HEADER_KEYS, "")
    _require(header["clf"] in CLASSIFIERS and header["scale"] in SCALINGS, "unknown classifier or scaling")
    layers, classes, scores = header["layers"], header["classes"], header["scores"]
    _require(all(isinstance(item, str) for item in [*layers, *classes, *header["notes"]]), "names that are no text")
    _require(len(set(classes)) == len(classes) >= 2, "fewer than two classes, or one twice")
    _require(classes == sorted(classes), "classes out of order")
    _require(len(set(layers)) == len(layers) >= 1, "no layer, or one twice")
    _require(0 < header["C"] < np.inf and 0 < header["temperature"] < np.inf, "C or temperature out of range")
    _require(bool(DIGESTS.fullmatch(header["trained_on"])), "trained_on is no list of digests")
    _require(type(scores.get("n", 0)) is int and 0 <= scores.get("n", 0) < 2**63, "scores.n is no count")
    widths = _checked_widths(header["description"], layers)
    k, d = 1 if len(classes) == 2 else len(classes), sum(widths)
    shapes = {"mean": (d,), "deviation": (d,), "coef": (k, d), "intercept": (k,)}
    return {**shapes, "class_means": (len(classes), d)}


def _checked_widths(description: dict[str, Any], layers: list[str]) -> list[int]:
    """Return the code lengths of the layers; the description must say all that is needed to make codes again."""
    _require_types(description, DESCRIPTION_KEYS, "description.")
    preprocessing, runtime = description["preprocessing"], description["runtime"]
    _require(bool(SHA256.fullmatch(description["weights_sha256"])), "weights_sha256 is no SHA-256")
    _require_types(preprocessing, PREPROCESSING_KEYS, "preprocessing.")
    for name in ("mean", "std"):
        numbers = preprocessing[name]
        _require(len(numbers) == 3 and all(type(x) in (int, float) for x in numbers), f"{name} is not three numbers")
    _require_types(runtime, RUNTIME_KEYS, "runtime.")
    _require(min(preprocessing["resize"], preprocessing["image_size"], runtime["batch_size"]) > 0, "sizes")
    largest = max(preprocessing["resize"], preprocessing["image_size"])
    _require(preprocessing.get("views", NO_VIEWS) in VIEWS, "unknown views")
    squares = runtime["batch_size"] * math.prod(middle_axis(preprocessing))
    _require(3 * largest**2 * squares <= MAX_BATCH_BYTES, "a batch that would not fit into memory")
    for name in layers:
        _require_types(description["layers"].get(name), {"n_features": int}, f"{name}: ")
    widths = [description["layers"][name]["n_features"] for name in layers]
    _require(min(widths) > 0, "code lengths")
    return widths


def _check_arrays(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    _require(set(arrays) in (set(ARRAYS), {*ARRAYS, *NOVELTY_ARRAYS}), "other arrays")
    cosines = arrays.get("familiarity", np.zeros(1))
    shapes = {**shapes, "familiarity": (min(max(1, cosines.size), MAX_REFERENCE),)}
    for name, array in arrays.items():
        _require(array.dtype == np.float64 and array.shape == shapes[name], f"{name} is {array.dtype} {array.shape}")
        _require(bool(np.isfinite(array).all()), f"{name} is not finite")
    _require(bool((arrays["deviation"] > 0).all()), "a deviation is not positive")
    _require(bool((np.diff(cosines) >= 0).all() and np.abs(cosines).max() <= 1), "familiarity is no list of cosines")
