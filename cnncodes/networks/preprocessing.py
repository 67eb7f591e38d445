"""From pixels of any size to the square of them that a network's weights were trained on.

The module is longer than others, but has one duty: it is one class, and nearly half of it describes what the methods
take and return.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from cnncodes.errors import MismatchError, SettingError, parameter
from cnncodes.vocabulary import NO_VIEWS, RESIZE_MODES, VIEWS, middle_axis

__all__ = ["Preprocessing"]

MAX_SIZE = 16_384  # pixels that enter a network, each way
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
DECODE_OVERSAMPLING = 2  # decode a JPEG to at least twice the size that it is resized to
JPEG_DIVISORS = (8, 4, 2)  # a JPEG can be decoded to its size divided by one of them
MAX_ASPECT = 16  # only the centre of an image whose sides differ more is resized for a crop
RESIZED_PIXELS = 2**25  # an image resized to more is cut before that in exact mode: Pillow takes 128 MiB for them
RESIZED_BY = "torch"  # the library that resizes, unless a description names another


@dataclass(frozen=True)
class Preprocessing:
    """Geometry and normalisation that belong to weights.

    Parameters
    ----------
    resize : int
        Short side in pixels before the crop.
    image_size : int
        Side in pixels of the square that enters the network.
    interpolation : {"bilinear", "bicubic"}
        How the pixels of the resized image are computed.
    mean, std : tuple of float
        Mean and standard deviation of each channel, for pixels in [0, 1].
    mode : {"crop", "pad", "squash"}, default="crop"
        Resize the short side and cut out the centre, as the weights were evaluated; or fit the whole image in and pad
        it with the mean colour, which is zero for the network; or resize both sides.
    exact : bool, default=False
        Decode at full size and resize with Pillow: bit for bit the pixels that the transforms of the weights make of an
        RGB PIL image. Otherwise torch resizes bilinearly, now and then one grey level off, and a JPEG file may be
        decoded at reduced scale. Bicubic resizing is always Pillow's.
    views : {"none", "flip", "10crop"}, default="none"
        What enters the network for each image: the image; or also its mirror image; or the four corners and the centre
        of the image resized to `resize` (its short side, both sides for ``pad`` and ``squash``), and those of its
        mirror image.
    ignore_profiles : bool, default=False
        Let the numbers of an image count as sRGB, whatever colour profile is embedded in it, as the transforms of the
        weights do. Otherwise its colours are converted to sRGB when it is decoded.

    Raises
    ------
    SettingError
        A value that no network can have, or nothing to cut ten views from.

    Examples
    --------
    >>> plain = Preprocessing(256, 224, "bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> plain.geometry(torch.zeros(3, 480, 640, dtype=torch.uint8)).shape
    torch.Size([3, 224, 224])
    >>> plain.override(image_size=112).resize
    128
    """

    resize: int
    image_size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mode: str = "crop"
    exact: bool = False
    views: str = NO_VIEWS
    ignore_profiles: bool = False

    def __post_init__(self) -> None:
        if self.mode not in RESIZE_MODES:
            raise SettingError(f"no way to resize is called {self.mode!r}; choose {', '.join(RESIZE_MODES)}")
        if self.views not in VIEWS:
            raise SettingError(f"no views are called {self.views!r}; choose {', '.join(VIEWS)}")
        if self.interpolation not in INTERPOLATIONS:
            raise SettingError(f"interpolation {self.interpolation!r} is not known, only {', '.join(INTERPOLATIONS)}")
        sizes = (self.resize, self.image_size)
        if not all(isinstance(size, int) and 1 <= size <= MAX_SIZE for size in sizes):
            raise SettingError(f"an image size of {sizes[1]} pixels, resized to {sizes[0]}; expected 1 to {MAX_SIZE}")
        if not all(len(values) == 3 and np.isfinite(values).all() for values in (self.mean, self.std)) or 0 in self.std:
            raise SettingError(f"mean {self.mean} and std {self.std}; expected three numbers each, std not 0")
        if self.views == "10crop" and self.resize <= self.image_size:
            raise SettingError(
                f"an image resized to {self.resize} pixels has no ten views of {self.image_size} pixels to cut out; "
                f"use {parameter('views', 'flip')}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON; `views` only if there are some, ``resized_by`` only if it is not torch.

        Files of older versions lack ``resized_by`` where torch made other pixels than Pillow makes now. They lack
        `ignore_profiles` because all of them did, so it is left out where it is true.

        Returns
        -------
        dict of str to object
            The fields by name, ``mean`` and ``std`` as lists; `from_dict` takes it.
        """
        fields = {**asdict(self), "mean": list(self.mean), "std": list(self.std), "resized_by": self.resized_by}
        usual = {"views": NO_VIEWS, "resized_by": RESIZED_BY, "ignore_profiles": True}
        return {name: value for name, value in fields.items() if usual.get(name) != value}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Make a preprocessing from its description.

        Parameters
        ----------
        fields : mapping of str to object
            What `to_dict` returned.

        Returns
        -------
        Preprocessing
            Equal to the one that was described.

        Raises
        ------
        SettingError
            A field is missing, or has a value that no network can have.
        MismatchError
            The description names another library for resizing than the one that this version uses.
        """
        own = {name: value for name, value in ({"ignore_profiles": True} | {**fields}).items() if name != "resized_by"}
        try:
            made = cls(**{**own, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        except (KeyError, TypeError, ValueError) as error:
            raise SettingError(f"the description of the preprocessing cannot be read ({error})") from error
        if made.resized_by != (resized_by := fields.get("resized_by", RESIZED_BY)):
            raise MismatchError(f"images were resized by {resized_by}, and are by {made.resized_by} in this version")
        return made

    def override(
        self,
        image_size: int | None = None,
        mode: str | None = None,
        *,
        exact: bool | None = None,
        views: str | None = None,
        ignore_profiles: bool | None = None,
    ) -> Preprocessing:
        """Return a copy with other settings; a setting that is not given stays.

        Parameters
        ----------
        image_size : int, optional
            Side in pixels; `resize` keeps its ratio to it.
        mode : {"crop", "pad", "squash"}, optional
            How an image becomes square.
        exact : bool, optional
            Whether to decode at full size and resize with Pillow.
        views : {"none", "flip", "10crop"}, optional
            What enters the network for each image.
        ignore_profiles : bool, optional
            Whether the numbers count as sRGB, whatever profile is embedded.

        Returns
        -------
        Preprocessing
            The copy.

        Raises
        ------
        SettingError
            A value that no network can have.
        """
        size = self.image_size if image_size is None else image_size
        return replace(
            self,
            resize=round(self.resize * size / self.image_size),
            image_size=size,
            mode=self.mode if mode is None else mode,
            exact=self.exact if exact is None else exact,
            views=self.views if views is None else views,
            ignore_profiles=self.ignore_profiles if ignore_profiles is None else ignore_profiles,
        )

    @property
    def middle_axis(self) -> tuple[int, ...]:
        """The number of views as a shape, ``()`` without views."""
        return middle_axis({"views": self.views})

    @property
    def resized_by(self) -> str:
        """The library that resizes: ``"pillow"`` or ``"torch"``."""
        return "pillow" if self.exact or self.interpolation == "bicubic" else RESIZED_BY

    @property
    def _side(self) -> int:
        """Side, in pixels, of the square that an image is padded or squashed to."""
        return self.resize if self.views == "10crop" else self.image_size

    def enough(self, width: int, height: int) -> tuple[int, int]:
        """Return the smallest size at which an image may be decoded.

        Parameters
        ----------
        width, height : int
            Size of the image file in pixels.

        Returns
        -------
        (int, int)
            Width and height in pixels.

        Examples
        --------
        >>> Preprocessing(256, 224, "bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).enough(4000, 3000)
        (683, 512)
        """
        if self.exact:
            return width, height
        if self.mode == "squash":
            return DECODE_OVERSAMPLING * self._side, DECODE_OVERSAMPLING * self._side
        if self.mode == "crop":
            scale = self.resize / min(width, height)
            return math.ceil(DECODE_OVERSAMPLING * scale * width), math.ceil(DECODE_OVERSAMPLING * scale * height)
        for part in JPEG_DIVISORS:  # the first that keeps the shape of the image inside the square
            reduced = max(1, round(width / part)), max(1, round(height / part))
            large_enough = max(width, height) // part >= DECODE_OVERSAMPLING * self._side
            if large_enough and self._inner(*reduced) == self._inner(width, height):
                return max(1, width // part), max(1, height // part)
        return width, height

    def _inner(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that an image of this size has inside the square it is padded to."""
        scale = self._side / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def geometry(self, pixels: torch.Tensor) -> torch.Tensor:
        """Make an image square, as torchvision's transforms for PIL images do.

        Parameters
        ----------
        pixels : Tensor of uint8, shape (3, H, W)
            Is not changed.

        Returns
        -------
        Tensor of uint8, shape (3, image_size, image_size)
        """
        return _centre(self._scaled(pixels), self.image_size, self.image_size).contiguous()

    def squares(self, pixels: torch.Tensor) -> torch.Tensor:
        """Make all that enters the network of an image.

        Parameters
        ----------
        pixels : Tensor of uint8, shape (3, H, W)
            Is not changed.

        Returns
        -------
        Tensor of uint8, shape (3, image_size, image_size) or (n_views, 3, image_size, image_size)
        """
        if self.views == "10crop":
            from torchvision.transforms.functional import ten_crop

            return torch.stack(ten_crop(self._scaled(pixels), [self.image_size, self.image_size]))
        square = self.geometry(pixels)
        return torch.stack([square, square.flip(-1)]) if self.views == "flip" else square

    def _scaled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Resize an image to what the square is cut out of.

        If the long side is more than 16 times the short one, the centre is cut out before it is resized: the pixels of
        the central square are the same but for rounding, and the memory stays bounded. In exact mode, that happens
        only if the resized image would have more than 2**25 pixels (a ratio of 512, for a short side of 256).
        """
        size = self._side
        if self.mode == "squash":
            return self._resized(pixels, size, size)
        height, width = pixels.shape[1:]
        if self.mode == "pad":
            wide, tall = self._inner(width, height)
            inner = self._resized(pixels, tall, wide)
            square = torch.tensor(self.mean).mul(255).round().to(torch.uint8).view(3, 1, 1).repeat(1, size, size)
            top, left = (size - inner.shape[1]) // 2, (size - inner.shape[2]) // 2
            square[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
            return square
        short, long = sorted((height, width))
        ratio = max(MAX_ASPECT, RESIZED_PIXELS // self.resize**2) if self.exact else MAX_ASPECT
        if long > ratio * short:
            long = ratio * short + (long - ratio * short) % 2  # an even number is cut off: the centre stays
            pixels = _centre(pixels, min(height, long), min(width, long))
        scaled = int(self.resize * long / short)  # torchvision's rule
        new = (self.resize, scaled) if height <= width else (scaled, self.resize)
        return self._resized(pixels, *new)

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """Return ``(batch / 255 - mean) / std`` in float32, on the batch's device.

        Parameters
        ----------
        batch : Tensor of uint8, shape (n, 3, S, S)
            Is not changed.

        Returns
        -------
        Tensor of float32, shape (n, 3, S, S)
        """
        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1)
        return (batch.to(torch.float32) / 255).sub_(mean).div_(std)

    def _resized(self, pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
        if pixels.shape[1:] == (height, width):
            return pixels
        narrowest = min(height, width, *pixels.shape[1:])  # torch cannot resize integers with a side of 1
        if self.resized_by == "torch" and narrowest > 1:
            return torch.nn.functional.interpolate(
                pixels[None], (height, width), mode=self.interpolation, align_corners=False, antialias=True
            )[0]
        # In one call: releases of Pillow differ in whether they resize widths or heights first, rounding between.
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        resized = np.array(image.resize((width, height), INTERPOLATIONS[self.interpolation]))
        return torch.from_numpy(resized).permute(2, 0, 1)


def _centre(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut out the centre as torchvision's centre crop does; what is too small is padded with black."""
    tall, wide = pixels.shape[1:]
    if tall < height or wide < width:
        left, top = max(0, (width - wide) // 2), max(0, (height - tall) // 2)
        right, bottom = max(0, (width - wide + 1) // 2), max(0, (height - tall + 1) // 2)
        pixels = torch.nn.functional.pad(pixels, (left, right, top, bottom))
        tall, wide = pixels.shape[1:]
    top, left = round((tall - height) / 2), round((wide - width) / 2)
    return pixels[:, top : top + height, left : left + width]
