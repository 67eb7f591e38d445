"""Compares small versions of images, whichever of the two is mirrored, cropped or reduced."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import joblib
import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from cnncodes.errors import DecodeError
from cnncodes.images.decoding import decode, to_pixels
from cnncodes.images.image_set import ImageSet
from cnncodes.system.progress import Progress

__all__ = ["Thumbnails", "alike_in_colour", "difference", "read_thumbnails"]

SIDE = 64  # pixels that are kept of an image
GRID = 32  # cells of a view that are compared
CUTS = (0.0, 0.04, 0.08)  # shares of a side that a crop may have taken at each end
REDUCED_SIDE = 0.85  # an image whose short side is a smaller share of the other's is compared at its resolution
NOISE = 0.25  # grey levels; an image that varies less is blank
MAX_COLOUR_DIFFERENCE = 24.0  # between the means of red, green or blue, of 0 to 255
CHUNK = 32  # a thread has the views of so many images in memory: 11 MB


@dataclass
class Thumbnails:
    """Images made small.

    Attributes
    ----------
    grey : ndarray of uint8, shape (n, 64, 64)
    colour : ndarray, shape (n, 3)
        Mean of the red, green and blue values; not a number where the image cannot be read.
    side : ndarray of int, shape (n,)
        Short side of the image, in pixels, at most 64.
    """

    grey: np.ndarray
    colour: np.ndarray
    side: np.ndarray


def read_thumbnails(images: ImageSet, rows: Sequence[int], progress: Progress | None = None) -> Thumbnails:
    """Decode images and make them small, in threads.

    Parameters
    ----------
    images : ImageSet
        Images, some of which are read.
    rows : sequence of int
        Positions of the images to read, counted from 0.
    progress : callable, optional
        Called with (done, total, failed).
    """
    n = len(rows)
    thumbnails = Thumbnails(np.zeros((n, SIDE, SIDE), np.uint8), np.full((n, 3), np.nan), np.full(n, SIDE))

    def read(at: int) -> None:
        source = images.sources[rows[at]]
        try:
            if isinstance(source, (np.ndarray, Image.Image)):
                pixels = to_pixels(source)
            else:
                pixels = decode(images.read_bytes(rows[at]), enough=lambda width, height: (SIDE, SIDE))
        except DecodeError:
            return
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        thumbnails.side[at] = min(SIDE, *image.size)
        small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        thumbnails.colour[at] = np.asarray(small).mean(axis=(0, 1))
        thumbnails.grey[at] = np.asarray(small.convert("L"))

    with ThreadPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(read, range(n)), start=1):
            if progress is not None:
                progress(done, n, 0)
    return thumbnails


def difference(thumbnails: Thumbnails, pairs: np.ndarray) -> np.ndarray:
    """Return how much the images of each pair differ: 1 less their correlation, best aligned.

    Aligned means: over crops of up to 8 % of each side of either image, mirrored or not.

    Parameters
    ----------
    thumbnails : Thumbnails
        Small versions of the images.
    pairs : ndarray of int, shape (n_pairs, 2)
        Positions of the two images of each pair.

    Returns
    -------
    ndarray, shape (n_pairs,)
        Near 0 for the same picture; 1 where one of them cannot be read.
    """
    out = np.ones(len(pairs))
    side = thumbnails.side[pairs]
    reduced = side.min(axis=1) < REDUCED_SIDE * side.max(axis=1)
    good = ~np.isnan(thumbnails.colour[pairs]).any(axis=(1, 2))
    crops = _crops()
    whole = _unit(_views(thumbnails.grey, crops[:1]))[:, 0]  # (n, GRID²)
    plain = pairs[good & ~reduced]
    both_ways = (_difference_of_crops(thumbnails.grey, whole, ends, crops) for ends in (plain, plain[:, ::-1]))
    out[good & ~reduced] = np.minimum.reduce([out[good & ~reduced], *both_ways])
    for one in np.flatnonzero(good & reduced):
        both = np.stack([_at_resolution(thumbnails.grey[i], side[one].min()) for i in pairs[one]])
        views = _views(both, crops)
        lengths, wholes = _lengths(views), _unit(views[:, :1])
        out[one] = min(_least(views[i], lengths[i], wholes[1 - i])[0] for i in (0, 1))
    return out


def alike_in_colour(thumbnails: Thumbnails, pairs: np.ndarray) -> np.ndarray:
    """Return whether the mean colours of each pair agree, shape (n_pairs,): `difference` sees shades of grey only."""
    first, second = thumbnails.colour[pairs].swapaxes(0, 1)
    return (np.abs(first - second) <= MAX_COLOUR_DIFFERENCE).all(axis=1)


def _difference_of_crops(grey: np.ndarray, whole: np.ndarray, pairs: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Return how much the crops of the first of each pair differ from the whole of the second, at least."""
    out = np.empty(len(pairs))
    order = np.argsort(pairs[:, 0], kind="stable")
    images, starts = np.unique(pairs[order, 0], return_index=True)
    partners = np.split(order, starts[1:])

    def compare(chunk: slice) -> None:
        views = _views(grey[images[chunk]], crops)
        for view, length, at in zip(views, _lengths(views), partners[chunk], strict=True):
            out[at] = _least(view, length, whole[pairs[at, 1]])

    chunks = [slice(start, start + CHUNK) for start in range(0, len(images), CHUNK)]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(joblib.cpu_count()) as pool:
        list(pool.map(compare, chunks))
    return out


def _least(views: np.ndarray, lengths: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return 1 less the best correlation of a view, (n_views, GRID²), with each image, (k, GRID²), mirrored or not."""
    mirrored = whole.reshape(-1, GRID, GRID)[:, :, ::-1].reshape(len(whole), -1)
    both = views @ np.concatenate([whole, mirrored]).T / lengths  # as `whole` is centred, the views need not be
    return 1 - both.max(axis=0).reshape(2, -1).max(axis=0)


def _crops() -> np.ndarray:
    """Return what takes cells of a crop from pixels, shape (n_crops, GRID, SIDE); the first takes all."""
    crops = []
    for before in CUTS:
        for after in CUTS:
            edges = np.linspace(before * SIDE, (1 - after) * SIDE, GRID + 1)
            pixels = np.arange(SIDE)
            overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
            weights = np.maximum(overlap, 0)
            crops.append(weights / weights.sum(axis=1, keepdims=True))
    return np.array(crops, np.float32)


def _views(grey: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Return all crops of images, shape (n, n_crops², GRID²); the first is the whole."""
    n, count = len(grey), len(crops)
    tall = crops.reshape(-1, SIDE) @ grey.astype(np.float32)  # (n, n_crops · GRID, SIDE)
    views = tall @ crops.reshape(-1, SIDE).T  # (n, n_crops · GRID, n_crops · GRID)
    return views.reshape(n, count, GRID, count, GRID).swapaxes(2, 3).reshape(n, count * count, GRID * GRID)


def _unit(views: np.ndarray) -> np.ndarray:
    """Return views less their mean, at length 1, or shorter where there is little but noise."""
    return (views - views.mean(axis=-1, keepdims=True)) / _lengths(views)


def _lengths(views: np.ndarray) -> np.ndarray:
    """Return the lengths of views less their mean, and of a little noise, shape (..., 1)."""
    squares = np.einsum("...d,...d->...", views, views)
    variance = np.maximum(squares / GRID**2 - views.mean(axis=-1) ** 2, 0)
    return GRID * np.sqrt(variance + NOISE**2)[..., None]


def _at_resolution(grey: np.ndarray, side: int) -> np.ndarray:
    small = Image.fromarray(grey).resize((int(side), int(side)), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
