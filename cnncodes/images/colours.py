"""From whatever an image holds to colours: depths, palettes, inks, transparency and colour profiles become sRGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cnncodes.errors import DecodeError
from cnncodes.images.number_format import NumberFormat, uses_low_bits
from cnncodes.images.profiles import to_srgb

__all__ = ["PAPER", "to_rgb"]

RANGES = (1, 255, 65535)
DARK_PART = 4  # values that stay below this part of their range are worth a remark
PAPER = 247  # the darkest level of a picture that is blank: white, but for what a lossy file adds
CLEAR_REMARK = "it is transparent everywhere: the colours beneath were taken"
WHITE_REMARK = "white on a clear ground: laid over black"


def to_rgb(image: Image.Image, numbers: NumberFormat, profile: bytes, remarks: list[str]) -> Image.Image:
    """Return an image, which is loaded, in the mode RGB; the rules are in the docstring of `decode`.

    Parameters
    ----------
    image : PIL.Image.Image
    numbers : NumberFormat
        How its numbers are to be read.
    profile : bytes
        The colour profile to convert from; if it is empty, the colours stay as they are.
    remarks : list of str
        List to which notes on this image are appended.

    Raises
    ------
    DecodeError
        It holds no numbers, or colours that are not read.
    """
    if image.mode.startswith("I") or image.mode == "F" or numbers.signed:
        values = _values(image, numbers)
        grey = Image.fromarray(_to_8_bits(values, image.mode, numbers, remarks))
        rgb = (to_srgb(grey, profile, remarks) if profile else grey).convert("RGB")
        if isinstance(clear := image.info.get("transparency"), int):  # in 16-bit PNG, one grey value is clear
            rgb.paste((255, 255, 255), mask=Image.fromarray(np.uint8(255) * (values == clear)))
        return rgb
    if image.mode == "La":  # from which there is no other way
        image = image.convert("LA")
    if image.has_transparency_data and not numbers.opaque:
        rgb = _without_transparency(image, profile, remarks)
    elif profile:
        rgb = to_srgb(image, profile, remarks)
    else:
        rgb = image if image.mode == "RGB" else image.convert("RGB")  # convert would copy it
    if numbers.deep:
        highest = max(high for band, (_, high) in zip(image.getbands(), _extrema(image), strict=True) if band != "A")
        if 0 < highest < 256 // DARK_PART:
            remarks.append(_dark(256 * highest + 255, RANGES[-1]))
    return rgb


def _values(image: Image.Image, numbers: NumberFormat) -> np.ndarray:
    """Return the grey values of an image in float32, with their sign."""
    values = np.asarray(image)
    if numbers.signed:
        values = values.view(np.int8)
    elif numbers.unsigned:
        values = values.view(np.uint32)
    return values.astype(np.float32)


def _to_8_bits(values: np.ndarray, mode: str, numbers: NumberFormat, remarks: list[str]) -> np.ndarray:
    """Scale grey values, which Pillow's ``convert`` would cut off at 255."""
    finite = np.isfinite(values)
    if not finite.any():
        raise DecodeError("not one of its values is a number")
    low, high = float(values[finite].min()), float(values[finite].max())
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    ranges: tuple[int, ...] = RANGES if mode == "F" else () if numbers.signed else (numbers.top or RANGES[-1],)
    if mode != "F" and numbers.declared and uses_low_bits(values, numbers):
        ranges = (numbers.declared,)
    top: float = next((top for top in ranges if low >= 0 and high <= top), 0)
    if not top:
        remarks.append(f"values from {low:g} to {high:g} were stretched to 0–255")
        values, top = values.astype(np.float64) - low, (high - low) or 1.0
    elif mode != "F" and 0 < high < top / DARK_PART:
        remarks.append(_dark(high, top))
    levels = np.clip(np.rint(values * (255 / top)), 0, 255).astype(np.uint8)
    return 255 - levels if numbers.white_is_zero else levels


def _dark(high: float, top: float) -> str:
    return f"values up to {high:.0f} of {top:.0f} were taken as they are: little of their range is used"


def _without_transparency(image: Image.Image, profile: bytes, remarks: list[str]) -> Image.Image:
    """Lay an image over white; or over black if it is white itself, and nothing of it would be seen."""
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if profile:
        rgba = to_srgb(image.convert("L") if image.mode == "LA" else rgba.convert("RGB"), profile, remarks)
        rgba.putalpha(alpha)
    [(lowest, highest)] = _extrema(alpha)
    colours = rgba.convert("RGB")
    if highest == 0 and any(low < high for low, high in _extrema(colours)):
        remarks.append(CLEAR_REMARK)
        return colours
    on_white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if lowest < highest and all(low >= PAPER for low, _ in _extrema(on_white)):
        remarks.append(WHITE_REMARK)
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")
    return on_white


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    """Return the smallest and the largest value of each channel."""
    return [(float(channel.min()), float(channel.max())) for channel in map(np.asarray, image.split())]
