"""A fitted linear probe: from codes to labels, probabilities and novelty. It runs no network and reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnncodes.codes.provenance import Provenance
from cnncodes.codes.views import as_rows, averaged, summed
from cnncodes.errors import MismatchError, ShapeError
from cnncodes.models.answered import Answered
from cnncodes.models.match import require_match
from cnncodes.models.model_file import SHORT_DIGEST, TUNED
from cnncodes.models.scores import Scores
from cnncodes.models.tuned import Tuned
from cnncodes.neighbours.nearest import unit_parts, unit_rows
from cnncodes.probes.decision_values import softmax, winner
from cnncodes.probes.novelty import closeness, cosine_to_nearest, novelty

__all__ = ["LinearProbe"]

BLOCK_ROWS = 8192  # rows at a time, so that float64 copies and cosines stay small


@dataclass(eq=False)
class LinearProbe:
    """A linear probe with its scaling, its classes, its scores and the provenance of its codes.

    The attributes are described in `ProbeModel`, where users meet them.
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
            f"{type(self).__name__}({self.clf!r} on {' + '.join(self.layers)!r} of {self.provenance.backbone!r}"
            f"{tuned}, {len(self.classes)} classes, cross-validated accuracy {accuracy:.3f})"
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
            X = unit_parts(X, self.widths)
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
        cosines = np.empty(len(X))
        for start in range(0, len(X), BLOCK_ROWS):
            rows = X[start : start + BLOCK_ROWS]
            cosines[start : start + BLOCK_ROWS] = (
                cosine_to_nearest(self.scaled(rows), self.class_means)  # an older model file
                if self.training_codes is None
                else closeness(rows, self.training_codes, self.class_means)
            )
        return novelty(cosines, self.familiarity)

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
    def widths(self) -> list[int]:
        """Number of features of each of the model's layers."""
        return [self.provenance.layers[layer].n_features for layer in self.layers]
