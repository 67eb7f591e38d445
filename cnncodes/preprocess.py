"""From the bytes of an image file to the square of uint8 pixels that a network's weights were trained on."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from cnncodes.errors import DecodeError

__all__ = ["MAX_PIXELS", "MODES", "Preprocessing", "decode", "to_pixels"]

MAX_PIXELS = 178_956_970  # where Pillow itself refuses; 512 MiB of pixels
MODES = ("crop", "pad", "squash")
# Decoders that work inside this process. EPS starts Ghostscript; others are rare or old and little tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "TGA", "ICO", "PCX", "AVIF", "DIB", "SGI")
WIDEST = 4.0  # of a longer image only the centre can come through the crop: the rest is cut off before it is resized


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """Decode the bytes of an image file.

    EXIF orientation is applied; palettes, grey, CMYK and 1-bit images become RGB, transparency is laid over white,
    16-bit and float images are scaled to 8 bits. Of an animation the first frame is taken. Colour profiles are ignored.

    Parameters
    ----------
    data : bytes
    max_pixels : int
        Larger images are refused before their pixels are decoded.

    Returns
    -------
    Tensor of uint8, shape (3, H, W)

    Raises
    ------
    DecodeError
        The message says why.
    """
    if not data:
        raise DecodeError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if (n := image.width * image.height) > max_pixels:
                raise DecodeError(f"{image.width} × {image.height} = {n} pixels, more than the limit of {max_pixels}")
            return to_pixels(ImageOps.exif_transpose(image))
    except DecodeError:
        raise
    except Image.UnidentifiedImageError as error:
        raise DecodeError("not an image in a format that is read here") from error
    except Exception as error:  # decoders fail in many ways on bad bytes
        raise DecodeError(f"damaged or not supported: {error}") from error


def to_pixels(image: Any) -> torch.Tensor:
    """Return a PIL image or an array as pixels.

    Parameters
    ----------
    image : PIL.Image.Image, ndarray of uint8 with shape (H, W, 3) or (H, W), or Tensor of uint8 with shape (3, H, W)

    Returns
    -------
    Tensor of uint8, shape (3, H, W)

    Raises
    ------
    DecodeError
        Another type or shape.
    """
    if isinstance(image, torch.Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise DecodeError(f"a tensor of {image.dtype} {tuple(image.shape)}, expected torch.uint8 (3, H, W)")
        return image
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.shape[2:] not in ((), (1,), (3,)) or image.ndim < 2:
            raise DecodeError(f"an array of {image.dtype} {image.shape}, expected uint8 (H, W, 3) or (H, W)")
        rgb = np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))
    else:
        rgb = np.array(_to_rgb(image))
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; what has more than 8 bits a channel is scaled, where Pillow would cut it off."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        if image.mode == "I" and values.max(initial=0) > 65535:
            values = values / 65537.0
        if image.mode == "F":
            top = 1.0 if values.max(initial=0) <= 1 else 255.0 if values.max() <= 255 else 65535.0
            grey = np.nan_to_num(values) * (255.0 / top)
        else:
            grey = values / 257.0
        return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


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
    mean, std : tuple of float
        Of each channel, for pixels in [0, 1].
    mode : {"crop", "pad", "squash"}
        Resize the short side and cut out the centre; fit the whole image and pad it with the mean colour; or resize
        both sides.
    """

    resize: int
    image_size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mode: str = "crop"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Make it from what `to_dict` returned."""
        return cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})

    def override(self, image_size: int | None = None, mode: str | None = None) -> Preprocessing:
        """Return a copy for another size, with the same ratio of `resize` to `image_size`, or another mode."""
        size = image_size or self.image_size
        resize = round(self.resize * size / self.image_size)
        return replace(self, resize=resize, image_size=size, mode=mode or self.mode)

    def geometry(self, pixels: torch.Tensor) -> torch.Tensor:
        """Resize and cut, with antialiasing, on uint8.

        Parameters
        ----------
        pixels : Tensor of uint8, shape (3, H, W)

        Returns
        -------
        Tensor of uint8, shape (3, image_size, image_size)
        """
        size = self.image_size
        if self.mode == "squash":
            return self._resized(pixels, size, size)
        height, width = pixels.shape[1:]
        if self.mode == "pad":
            scale = size / max(height, width)
            inner = self._resized(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
            square = (
                torch.tensor([round(255 * m) for m in self.mean], dtype=torch.uint8).view(3, 1, 1).repeat(1, size, size)
            )
            top, left = (size - inner.shape[1]) // 2, (size - inner.shape[2]) // 2
            square[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
            return square
        short = min(height, width)
        if max(height, width) > WIDEST * short:
            pixels = _centre(pixels, min(height, int(WIDEST * short)), min(width, int(WIDEST * short)))
            height, width = pixels.shape[1:]
        # torchvision's rule: the long side is cut to an integer
        new = (
            (self.resize, int(self.resize * width / height))
            if height <= width
            else (int(self.resize * height / width), self.resize)
        )
        return _centre(self._resized(pixels, *new), size, size)

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """Return ``(batch / 255 - mean) / std`` in float32, on the batch's device.

        Parameters
        ----------
        batch : Tensor of uint8, shape (n, 3, S, S)
        """
        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1)
        return (batch.float() / 255 - mean) / std

    def _resized(self, pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
        if pixels.shape[1:] == (height, width):
            return pixels
        resized = torch.nn.functional.interpolate(
            pixels.unsqueeze(0), (height, width), mode=self.interpolation, align_corners=False, antialias=True
        )
        return resized.squeeze(0)


def _centre(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut out the centre, as torchvision's centre crop does; what is too small is padded with black."""
    tall, wide = pixels.shape[1:]
    if tall < height or wide < width:
        left, top = max(0, (width - wide) // 2), max(0, (height - tall) // 2)
        right, bottom = max(0, (width - wide + 1) // 2), max(0, (height - tall + 1) // 2)
        pixels = torch.nn.functional.pad(pixels, (left, right, top, bottom))
        tall, wide = pixels.shape[1:]
    top, left = round((tall - height) / 2), round((wide - width) / 2)
    return pixels[:, top : top + height, left : left + width]
