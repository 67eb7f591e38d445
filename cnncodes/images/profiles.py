"""Converts colours from the profile that is embedded in an image to sRGB, by littleCMS."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

__all__ = ["changes_colours", "to_srgb"]

MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile: mode of the images that it is for
MAX_PROFILES = 32  # transforms that are kept; a profile of inks may have 2 MB
SRGB_TOLERANCE = 1  # grey levels by which a profile that counts as sRGB may differ from it
STEPS = 9  # values of each channel at which it is compared with sRGB


def changes_colours(profile: bytes) -> bool:
    """Whether a profile says that colours are others than they would be in sRGB, or cannot be used."""
    try:
        _, transform = _transform(profile)
    except Exception:
        return True
    return transform is not None


def to_srgb(image: Image.Image, profile: bytes, remarks: list[str]) -> Image.Image:
    """Return an image in the mode RGB with its colours in sRGB.

    The intent is relative colorimetric with black-point compensation: a colour that sRGB has stays itself, whatever
    else is in the picture, and black stays black. The perceptual intent would shift all of them, by a table that each
    maker of profiles fills as he likes.

    Parameters
    ----------
    image : PIL.Image.Image
        Is not changed.
    profile : bytes
        The ICC profile that is embedded in it.
    remarks : list of str
        List to which a note is appended if the profile cannot be used: the numbers then count as sRGB.
    """
    try:
        mode, transform = _transform(profile)
    except Exception as error:  # whatever littleCMS makes of bad bytes
        text = " ".join(str(error).split()) or type(error).__name__
        remarks.append(f"its colour profile cannot be used ({text}): taken as sRGB")
        return image.convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    if mode != image.mode and mode != "RGB":
        remarks.append(f"its colour profile is for {mode} and not for {image.mode}: taken as sRGB")
        return image.convert("RGB")
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image if image.mode == mode else image.convert(mode), transform)
    assert converted is not None  # it is None only where the image itself is changed
    return converted


@functools.lru_cache(MAX_PROFILES)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the mode that a profile is for, and the transform to sRGB; None if that changes nothing.

    A transform may be applied by several threads: without a cache it keeps no state.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space
    if space not in MODES:
        raise ValueError(f"it is for {space.strip()} colours")
    mode = MODES[space]
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
    transform = ImageCms.buildTransform(
        source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, flags
    )
    if mode == "CMYK":
        return mode, transform
    levels = np.linspace(0, 255, STEPS).round().astype(np.uint8)
    if mode == "L":
        grid = levels[None]
        plain = np.stack([grid] * 3, axis=-1)
    else:
        grid = plain = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    converted = ImageCms.applyTransform(Image.fromarray(grid), transform)
    difference = np.abs(np.asarray(converted).astype(int) - plain)
    return mode, transform if difference.max() > SRGB_TOLERANCE else None
