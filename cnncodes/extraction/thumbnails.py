"""Makes a decoded image small, as codes files keep it."""

from __future__ import annotations

import numpy as np
import torch

from cnncodes.codes.thumbnails import SIDE, pack

__all__ = ["thumbnail_of"]


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    """Return the small picture of an image: the whole of it becomes a square.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (3, H, W)

    Returns
    -------
    ndarray of THUMBNAIL, shape (1,)

    Examples
    --------
    >>> record = thumbnail_of(np.full((3, 48, 32), 200, np.uint8))[0]
    >>> int(record["grey"][0, 0]), record["size"].tolist()
    (200, [32, 48])
    """
    height, width = pixels.shape[1:]
    if 1 in (height, width):  # torch refuses it
        pixels = pixels.repeat(1 + (height == 1), axis=1).repeat(1 + (width == 1), axis=2)
    small = torch.nn.functional.interpolate(
        torch.from_numpy(pixels)[None], (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
    )
    return pack(small.permute(0, 2, 3, 1).numpy(), np.array([[width, height]]))
