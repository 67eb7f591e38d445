"""Tiles of two photographs, and changes that leave a picture the same to people."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

TILE = 106


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def recompressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return Image.open(io.BytesIO(stream.getvalue()))


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((5, 4, image.width - 3, image.height - 5))


def resized(image: Image.Image) -> Image.Image:
    return image.resize((64, 64), Image.Resampling.BICUBIC)


CHANGES = (mirrored, recompressed, cropped, resized)


def tiles() -> list[Image.Image]:
    """Disjoint tiles of two photographs, but for those of plain sky."""
    cuts = [
        Image.fromarray(pixels[top : top + TILE, left : left + TILE])
        for pixels in load_sample_images().images
        for top in range(0, pixels.shape[0] - TILE + 1, TILE)
        for left in range(0, pixels.shape[1] - TILE + 1, TILE)
    ]
    return [cut for cut in cuts if np.asarray(cut.convert("L")).std() > 10]
