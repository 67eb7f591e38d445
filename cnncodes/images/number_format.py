"""What the numbers of an image file mean where Pillow does not look: their range, their sign, which end is white."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImagePalette

from cnncodes.errors import DecodeError

__all__ = ["NumberFormat", "deep_colours", "mend_tiff", "number_format", "uses_low_bits"]

# Tags of TIFF, and values of them
WIDTH, HEIGHT = 256, 257
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 262, 284, 339
MAX_SAMPLE_VALUE, SMAX_SAMPLE_VALUE, COLOUR_MAP = 281, 341, 320
WHITE_IS_ZERO, SIGNED, SEPARATE_PLANES = 0, 2, 2
# libtiff gives numbers in the order of the machine; these readers of Pillow expect that of a big-endian file
NATIVE_READERS = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}
LOWER_BYTES = {  # what reads the lower 8 of the 16 bits of which the other reads the upper ones
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}
DEEP_PLANES = {"RGB": "RGB;16N", "RGBA": "RGBA;16N", "CMYK": "CMYK;16N"}  # mode: what reads 16 bits of libtiff
PNG_START_BYTES = 8
TGA_ALPHA_BITS = 0x0F


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of an image are to be read.

    Attributes
    ----------
    top : int
        The largest value that the bits of a file hold, which is white; 0 if the values themselves must decide.
    declared : int
        The value that is white by a remark of the file, less than `top`; 0 without.
    signed : bool
        Whether 8-bit values are from -128 to 127.
    unsigned : bool
        Whether 32-bit values have no sign, though Pillow's have.
    white_is_zero : bool
        Whether the smallest value is white, and Pillow does not turn the values over.
    deep : bool
        Whether each colour has 16 bits, of which Pillow keeps the upper 8.
    opaque : bool
        Whether the fourth channel is no transparency.
    """

    top: int = 0
    declared: int = 0
    signed: bool = False
    unsigned: bool = False
    white_is_zero: bool = False
    deep: bool = False
    opaque: bool = False


def number_format(image: Image.Image, data: bytes = b"") -> NumberFormat:
    """Return how the numbers of an image are to be read; its pixels must not be loaded yet.

    Parameters
    ----------
    image : PIL.Image.Image
    data : bytes, optional
        The file. Without it, what Pillow does not keep of the header is unknown.
    """
    if hasattr(image, "tag_v2"):
        return _of_tiff(image)
    is_whole_number = image.mode.startswith("I")
    if image.format == "PNG" and is_whole_number:
        return NumberFormat(top=2**16 - 1, declared=2 ** _significant_bits(data) - 1)
    if image.format == "TGA" and data:
        return NumberFormat(opaque=image.mode == "RGBA" and not data[17] & TGA_ALPHA_BITS)
    deep = not is_whole_number and ";16" in str(getattr(image, "tile", ""))
    declared = 2 ** _significant_bits(data) - 1 if deep and image.format == "PNG" else 0
    return NumberFormat(top=2**16 - 1 if deep else 0, declared=declared, deep=deep)


def _of_tiff(image: Any) -> NumberFormat:
    tags = image.tag_v2
    bits, sign = (_first(tags.get(tag, 1)) for tag in (BITS_PER_SAMPLE, SAMPLE_FORMAT))
    is_whole_number = image.mode.startswith("I")
    values = [int(_first(tags.get(tag, 0))) for tag in (SMAX_SAMPLE_VALUE, MAX_SAMPLE_VALUE)]
    return NumberFormat(
        top=2 ** (bits - (sign == SIGNED)) - 1 if (is_whole_number or bits == 16) and bits < 32 else 0,
        # a value that is not all ones in binary is the largest of this image, and says nothing about white
        declared=next((value for value in values if value > 255 and not value & value + 1), 0),
        signed=image.mode == "L" and sign == SIGNED,
        unsigned=image.mode == "I" and bits == 32 and sign != SIGNED,
        white_is_zero=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO and (is_whole_number or image.mode == "F"),
        deep=bits == 16 and image.mode in ("RGB", "RGBA"),
    )


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


def _significant_bits(data: bytes) -> int:
    """Return how many bits the values of a PNG file had before they were stored in 16: the chunk sBIT, else 16."""
    at = PNG_START_BYTES
    while at + 9 <= len(data) and (kind := data[at + 4 : at + 8]) != b"IDAT":
        if kind == b"sBIT" and data[at + 8] > 8:
            return data[at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return 16


def uses_low_bits(values: np.ndarray, numbers: NumberFormat) -> bool:
    """Whether values are up to `declared` as they are, and not shifted to the top of their 16 bits as PNG demands."""
    step = (numbers.top + 1) // (numbers.declared + 1)
    return bool(numbers.declared < numbers.top and values.max() <= numbers.declared and (values % step).any())


def deep_colours(image: Any, again: Any, numbers: NumberFormat) -> np.ndarray | None:
    """Return colours (H, W, 3) in uint8 whose 16-bit numbers use only as many bits as the file says; else None.

    Parameters
    ----------
    image, again : PIL.Image.Image
        The image, opened twice: Pillow gives either the upper or the lower 8 bits of a number.
    numbers : NumberFormat
    """
    tile = again.tile[0]
    arguments = (tile[3],) if isinstance(tile[3], str) else tile[3]
    separate = getattr(image, "tag_v2", {}).get(PLANAR_CONFIGURATION) == SEPARATE_PLANES
    if image.mode != "RGB" or separate or arguments[0] not in LOWER_BYTES:
        return None
    lower = (LOWER_BYTES[arguments[0]], *arguments[1:])
    make = getattr(tile, "_make", tuple)
    again.tile = [make((*one[:3], lower[0] if isinstance(tile[3], str) else lower)) for one in again.tile]
    image.load()
    again.load()
    values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(again)
    return np.rint(values * (255 / numbers.declared)).astype(np.uint8) if uses_low_bits(values, numbers) else None


def mend_tiff(image: Any) -> None:
    """Have a TIFF image that is opened read as its tags say, where Pillow would read other pixels.

    Raises
    ------
    DecodeError
        Pillow cannot read such a file.
    """
    tags = image.tag_v2
    tile = image.tile[0] if image.tile else None
    make = getattr(tile, "_make", tuple)  # a named tuple since Pillow 11
    separate = tags.get(PLANAR_CONFIGURATION) == SEPARATE_PLANES
    if tile and tile[0] == "libtiff":
        if separate and image.mode in ("LA", "La", "PA"):
            raise DecodeError("a TIFF file with transparency in a plane of its own; save it with interleaved channels")
        reader = NATIVE_READERS.get(tile[3][0]) if sys.byteorder == "little" else None
        if reader:
            image.tile = [make((*tile[:3], (reader, *tile[3][1:])))]
    elif tile and separate and _first(tags.get(BITS_PER_SAMPLE)) == 16 and image.mode in DEEP_PLANES:
        # Pillow's own reader takes 16-bit planes for 8-bit ones; libtiff's, used for compressed files, does not
        image.use_load_libtiff = True
        whole = (0, 0, tags[WIDTH], tags[HEIGHT])
        compression = () if int(PIL.__version__.partition(".")[0]) >= 13 else ("raw",)  # an argument until Pillow 12
        image.tile = [make(("libtiff", whole, 0, (DEEP_PLANES[image.mode], *compression, False, tags.offset)))]
    if image.mode in ("P", "PA") and max(colours := tags[COLOUR_MAP]) < 256:  # meant to be 16-bit values
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))
