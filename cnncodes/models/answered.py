"""Out-of-fold answers to training images, which the file of a fine-tuned model keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cnncodes.errors import ModelFileError

__all__ = ["ANSWERED", "Answered"]

ANSWERED = {
    "answered_images": "<i8",
    "answered_classes": "<i8",
    "answered_confidence": "<f8",
}  # arrays, and their types


@dataclass(frozen=True, eq=False)
class Answered:
    """Out-of-fold answers to training images: each by a network that was trained on other folds.

    To repeat them would be to train again, so they are kept with the model.

    Parameters
    ----------
    images : ndarray of int64, shape (m,)
        The first 8 bytes of the SHA-256 of each image, ascending.
    classes : ndarray of int64, shape (m,)
        Positions of the answers in the classes of the model.
    confidence : ndarray of float64, shape (m,)
        Probability of each answer.

    Examples
    --------
    >>> digests = np.arange(96, dtype=np.uint8).reshape(3, 32)
    >>> answered = Answered.of(digests[[2, 0]], np.array([1, 0]), np.array([0.9, 0.6]))
    >>> answered.places(digests).tolist()
    [0, -1, 1]
    """

    images: np.ndarray
    classes: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, sha256: np.ndarray, classes: np.ndarray, confidence: np.ndarray) -> Answered:
        """Return the answers to images of these digests, shape (n, 32); of exact copies the first one counts."""
        images, first = np.unique(_short(sha256), return_index=True)
        return cls(images, classes[first].astype(np.int64), confidence[first].astype(np.float64))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], n_classes: int) -> Answered:
        """Return the answers of a model file, which may come from anyone.

        Raises
        ------
        ModelFileError
            They are no answers.
        """
        if missing := [name for name in ANSWERED if name not in arrays]:
            raise ModelFileError(f"{missing[0]} is missing")
        images, classes, confidence = (arrays[name] for name in ANSWERED)
        for name, kind in ANSWERED.items():
            if arrays[name].dtype != kind or arrays[name].shape != (len(images),):
                raise ModelFileError(f"{name} is {arrays[name].dtype} {arrays[name].shape}")
        if not len(images) or (images[1:] <= images[:-1]).any():
            raise ModelFileError("the answered images are out of order")
        if ((classes < 0) | (classes >= n_classes)).any() or not ((confidence >= 0) & (confidence <= 1)).all():
            raise ModelFileError("answers that are no classes, or no probabilities")
        return cls(images, classes, confidence)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what `from_arrays` takes."""
        return dict(zip(ANSWERED, (self.images, self.classes, self.confidence), strict=True))

    def places(self, sha256: np.ndarray) -> np.ndarray:
        """Return the place of the answer to each image of these digests, shape (n,); -1 where there is none."""
        images = _short(sha256)
        places = np.searchsorted(self.images, images).clip(max=len(self.images) - 1)
        return np.where(self.images[places] == images, places, -1)


def _short(sha256: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(sha256[:, :8]).view(">i8")[:, 0].astype(np.int64)
