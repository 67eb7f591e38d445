"""Where in an image an answer comes from, as numbers and as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cnncodes.system.files import refuse_foreign, replacing

__all__ = ["EXPLANATION", "Explanation", "is_explanation"]

EXPLANATION = "a picture of an explanation"
MARK = ("Software", "cnncodes explanation")  # text in the PNG file, by which it is known
FOR, AGAINST = (215, 25, 28), (44, 90, 180)  # red and blue, which the colour-blind tell apart
STRONGEST = 0.65  # share of the colour at the place that says most
GREY = 0.5  # how far the picture below is faded to grey, so that its own colours do not compete


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which places of an image speak for a class, and which for others.

    The mean of the maps, over all places and summed over the layers, plus the constant is the decision value: nothing
    is left out, and nothing is estimated.

    Attributes
    ----------
    path : str
        Id of the image, as in a `Prediction`.
    label : str
        The class that is explained.
    decision : float
        How far its decision value is above that of another class, or above the mean of those of all others; of two
        classes, the decision value itself. Those of an image's views are summed.
    constant : float
        The part of it that comes from no place.
    maps : dict of str to ndarray of float64, shape (H, W)
        By layer of the model: what each place of its feature map adds.
    picture : ndarray of uint8, shape (S, S, 3)
        What the network saw of the image.

    References
    ----------
    Zhou, Khosla, Lapedriza, Oliva, Torralba 2016, Learning deep features for discriminative localization (class
    activation maps).

    Examples
    --------
    >>> maps = {"layer4": np.array([[3.0, 1.0], [0.0, 0.0]])}
    >>> one = Explanation("rose.jpg", "rose", 0.5, -0.5, maps, np.zeros((4, 4, 3), np.uint8))
    >>> float(one.maps["layer4"].mean() + one.constant)
    0.5
    >>> one.heatmap().shape
    (4, 4)
    """

    path: str
    label: str
    decision: float
    constant: float
    maps: Mapping[str, np.ndarray] = field(repr=False)
    picture: np.ndarray = field(repr=False)

    def heatmap(self) -> np.ndarray:
        """Return the maps of all layers with the constant, enlarged to the picture, shape (S, S).

        Above 0 a place speaks for the class, below 0 against it. The enlarged map is smooth, so its mean is the
        decision value only nearly.
        """
        size = self.picture.shape[1::-1]
        enlarged = [
            np.asarray(Image.fromarray(one.astype(np.float32)).resize(size, Image.Resampling.BILINEAR), np.float64)
            for one in self.maps.values()
        ]
        return np.sum(enlarged, axis=0) + self.constant

    def draw(self) -> Image.Image:
        """Return the picture with red where it speaks for the class, and blue where against it."""
        heat = self.heatmap()
        strength = STRONGEST * np.abs(heat) / max(np.abs(heat).max(), np.finfo(np.float64).tiny)
        colours = np.where((heat > 0)[..., None], FOR, AGAINST)
        grey = self.picture.mean(axis=2, keepdims=True)
        faded = GREY * grey + (1 - GREY) * self.picture
        mixed = faded + strength[..., None] * (colours - faded)
        return Image.fromarray(np.round(mixed).astype(np.uint8))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write what `draw` returns as a PNG file.

        Parameters
        ----------
        path : path
            A picture that was written by this method is replaced.
        overwrite : bool, default=False
            Replace any other file, too.

        Raises
        ------
        CnnCodesError
            Another file is there, and stays as it is; or it cannot be written.
        """
        refuse_foreign(path, EXPLANATION, is_explanation, overwrite=overwrite)
        mark = PngInfo()
        mark.add_text(*MARK)
        with replacing(Path(path)) as partial, partial.open("wb") as stream:
            self.draw().save(stream, "PNG", pnginfo=mark)


def is_explanation(path: Path) -> bool:
    """Whether a file is a picture that `Explanation.save` wrote."""
    key, value = MARK
    with path.open("rb") as stream:
        head = stream.read(200)
    return head.startswith(b"\x89PNG") and f"tEXt{key}\0{value}".encode() in head
