"""Decodes JPEG files faster than Pillow, and says what is wrong with them, which Pillow passes over."""

from __future__ import annotations

import re

import numpy as np
import simplejpeg
from PIL import Image

from cnncodes.errors import DecodeError

__all__ = ["judge_damage", "plain_jpeg"]

JPEG_PARTS = 8  # a JPEG file can be decoded to 1/8, 2/8, ... of its size
JFIF_REVISION = 1  # the only one that there is
JPEG_GREY = 128  # the level of the parts of a JPEG picture whose data are missing
MAX_MISSING = 0.5  # part of a damaged picture that may be missing
SAMPLE_SIDE = 1024  # pixels of the short side that are looked at


def plain_jpeg(data: bytes, image: Image.Image) -> tuple[np.ndarray | None, str]:
    """Decode a JPEG file straight into an array: the pixels that Pillow gives, in two thirds of its time.

    Pillow also holds the interpreter's lock while it copies pixels, which this does not. None if anything about the
    file is unusual: Pillow then reads it. The text is what this decoder has against the data, which Pillow passes over.
    """
    width, height = image.size  # the full size, or a half, a quarter or an eighth of it
    if min(image.size) < JPEG_PARTS:  # several parts round to the same size: it could take another than Pillow
        return None, ""
    colours = "CMYK" if image.mode == "CMYK" else "RGB"
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height, strict=True)
    except ValueError as error:
        revision = data.find(b"JFIF\0") + len(b"JFIF\0")
        if "JFIF revision" in str(error) and data[revision] != JFIF_REVISION:  # it changes no pixel, but hides damage
            return plain_jpeg(data[:revision] + bytes([JFIF_REVISION]) + data[revision + 1 :], image)
        return None, re.sub(r"\b(\d+|0x[0-9a-f]+)\b ?|(?<=RST)\d", "", str(error)).strip()  # equal ones are counted
    except Exception:
        return None, ""
    return (pixels, "") if pixels.shape == (height, width, 3) else (None, "")


def judge_damage(image: Image.Image, damage: str, remarks: list[str]) -> None:
    """Say what a decoder notes of a JPEG file; raise if most of its lines are missing, which a decoder leaves grey."""
    scale = min(1.0, SAMPLE_SIDE / min(image.size))
    some = image.resize([max(1, round(scale * side)) for side in image.size], Image.Resampling.NEAREST)
    is_grey = np.abs(np.asarray(some).reshape(some.height, -1).astype(np.int16) - JPEG_GREY) <= 1
    missing = np.cumprod(np.flip(is_grey.all(axis=1))).mean()  # what is missing are the last lines
    if missing > MAX_MISSING:  # whatever the decoder says: it names only the first thing that it notes
        raise DecodeError(f"the JPEG file is damaged: {missing:.0%} of the picture is missing ({damage})")
    remarks.append(f"the decoder notes: {damage}; parts of the picture may be wrong")
