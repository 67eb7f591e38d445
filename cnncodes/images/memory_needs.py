"""How much memory it takes to decode an image."""

from __future__ import annotations

import math
from typing import Any

from cnncodes.images.number_format import NumberFormat

__all__ = ["bytes_to_decode"]

# Bytes a pixel, measured with Pillow 12: what a codec keeps, at full size; then what becomes of its pixels
CODEC_BYTES = {"WebP": 9, "AVIF": 9, "HEIC": 6, "JPEG 2000": 13}
COEFFICIENT_BYTES = 2.25  # of each value in a progressive JPEG file: 2, and some more for blocks at the edge
RGB_BYTES, PLAIN_BYTES, CONVERTED_BYTES, DEEP_BYTES, CLEAR_BYTES = 7.5, 8.5, 15, 25, 25
PROFILE_BYTES = 6


def bytes_to_decode(image: Any, name: str, size: tuple[int, int], numbers: NumberFormat, profile: bytes) -> int:
    """Return how many bytes it takes at most to decode an image, beside its file.

    Parameters
    ----------
    image : PIL.Image.Image
        The image, opened and not loaded; a JPEG file may be set to a part of its size.
    name : str
        Name of the format, as in `FORMATS`.
    size : (int, int)
        Width and height of the file.
    numbers : NumberFormat
    profile : bytes
        The colour profile to convert from, if any.
    """
    is_deep = image.mode[0] in "IF" or numbers.signed or numbers.deep
    by_mode = {"RGB": RGB_BYTES, "L": PLAIN_BYTES, "P": PLAIN_BYTES, "1": PLAIN_BYTES}
    pixel_bytes = DEEP_BYTES if is_deep else by_mode.get(image.mode, CONVERTED_BYTES)
    if image.has_transparency_data:
        pixel_bytes = CLEAR_BYTES
    codec_bytes = _coefficient_bytes(image) if "progressive" in image.info else CODEC_BYTES.get(name, 0)
    own_bytes = pixel_bytes + PROFILE_BYTES * bool(profile)
    return round(codec_bytes * math.prod(size) + own_bytes * math.prod(image.size))


def _coefficient_bytes(image: Any) -> float:
    """Return the bytes a pixel of all coefficients of a JPEG file, whose channels may be coarser than the first."""
    areas = [across * down for _, across, down, _ in image.layer]
    return COEFFICIENT_BYTES * sum(areas) / max(areas)
