"""Tells whether two small pictures show the same image, resized, recompressed, mirrored, cropped, turned or framed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from cnncodes.codes.thumbnails import NO_COLOUR, SIDE
from cnncodes.neighbours.registration import IDENTITY, STARTS, register, resampled

__all__ = ["FEW_STEPS", "STEPS", "Comparison", "compare_pictures", "detail", "plain_differences", "plain_parts"]

COARSE, FINE = 16, 32  # cells along a side: where a map is looked for, and where it is improved
STEPS, FEW_STEPS = (7, 5), (4, 1)  # of coarse and of fine cells; few are enough to see that pictures differ
START_STEPS = 1
CHUNK = 128  # pairs that are registered together: their cells stay in the cache of a core
REDUCED_SIDE = 0.85  # an image whose short side is a smaller share of the other's is compared at its resolution
HIGH_RESOLUTION = 48  # pixels; a short side of so many is enough for all cells
WELL_LAID = 0.95  # correlation, above which no frame is looked for
HOPELESS = 0.7  # correlation of coarse cells, below which fine ones are not looked at
NOISE = 0.25  # grey levels; what varies less, besides an even slope, says nothing
# What a map of a copy looks like
MAX_OUTSIDE = 0.08  # share by which each picture may reach beyond the other, turns apart: a shift shows other things
MAX_STRETCH = 0.22  # difference of the logarithms of the scales across and down
MAX_SHEAR = 0.004  # product of the off-diagonal numbers of a map: that of a turn is negative
# What its colours look like
MIN_HUE_AGREEMENT = 0.85  # cosine of the colour differences
HUE_NOISE = 20.0  # mean square of colour differences that means nothing
COLOURLESS, GREY = 60.0, 16.0  # mean square of the colour differences, in both pictures; in the one that is made grey
MAX_BRIGHTER = 24.0  # grey levels
MAX_CONTRAST = 2.5  # ratio of the deviations
SAME_CONTRAST, SAME_BRIGHTNESS = 1.15, 10.0  # of a picture made grey, beside its original
MAX_CONCENTRATION = 36.0  # difference of the worst block, in those of all: a small other object on the same ground
PLAIN_BLOCK, MAX_CONCENTRATION_PLAIN = 0.8, 20.0  # the same, where the mean square of the worst block is so large
SMALL = 0.003  # difference that means nothing
BLOCKS = 8  # along a side


@dataclass
class Comparison:
    """How pairs of small pictures compare, best laid over each other.

    Attributes
    ----------
    difference : ndarray, shape (n,)
        1 less the correlation of what the pictures hold beside an even slope; 1 where they are nothing alike.
    is_like_a_copy : ndarray of bool, shape (n,)
        Whether one picture lies within the other, the colours agree, and no part of it differs far more than the rest.
    """

    difference: np.ndarray
    is_like_a_copy: np.ndarray


def plain_parts(grey: np.ndarray) -> np.ndarray:
    """Return coarse pictures less their mean, at length 1, as what stays and what changes its sign when mirrored.

    The product of two rows is the correlation of the pictures; with the sign of the second halves changed, it is that
    of one with the other mirrored.

    Parameters
    ----------
    grey : ndarray of uint8, shape (n, 64, 64)

    Returns
    -------
    ndarray of float32, shape (n, 2, 128)
    """
    cells = _cells(grey, COARSE)
    cells -= cells.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt((cells**2).sum(axis=(1, 2), keepdims=True) + (NOISE * COARSE) ** 2)
    left, right = cells[:, :, : COARSE // 2], cells[:, :, : COARSE // 2 - 1 : -1]
    parts = np.stack([left + right, left - right], axis=1) / (np.sqrt(2) * lengths[..., None])
    return parts.reshape(len(grey), 2, -1).astype(np.float32)


def plain_differences(parts: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 less the correlation of each pair as they are or with one mirrored, and which of the two is more."""
    same, changed = np.einsum("nij,nij->ni", parts[pairs[:, 0]], parts[pairs[:, 1]]).T
    return 1 - same - np.abs(changed), changed < 0


def detail(grey: np.ndarray) -> np.ndarray:
    """Return the deviation of coarse pictures from an even slope, in grey levels, shape (n,)."""
    cells = _cells(grey, COARSE).reshape(len(grey), -1)
    plane = _plane(COARSE)
    return (cells - cells @ np.linalg.pinv(plane) @ plane).std(axis=1)


def compare_pictures(
    records: np.ndarray,
    pairs: np.ndarray,
    mirrored: np.ndarray,
    *,
    framed: np.ndarray | None = None,
    steps: tuple[int, int] = STEPS,
) -> Comparison:
    """Lay the pictures of each pair over each other, and compare them.

    Parameters
    ----------
    records : ndarray of THUMBNAIL, shape (n_images,)
    pairs : ndarray of int, shape (n, 2)
        Positions in `records`.
    mirrored : ndarray of bool, shape (n,)
        Whether the second picture of a pair is mirrored first.
    framed : ndarray of bool, shape (n,), optional
        Pairs of which one picture may have a border or a caption, where the other's begins elsewhere; by default none.
    steps : (int, int), default=STEPS
        With coarse cells and with fine ones.
    """
    difference, is_like_a_copy = np.ones(len(pairs)), np.zeros(len(pairs), bool)
    framed = np.zeros(len(pairs), bool) if framed is None else framed
    for start in range(0, len(pairs), CHUNK):
        at = slice(start, start + CHUNK)
        chunk = _Chunk(records, pairs[at], mirrored[at])
        difference[at], is_like_a_copy[at] = chunk.compare(framed[at], steps)
    return Comparison(difference, is_like_a_copy)


class _Chunk:
    """Some pairs of pictures: grey levels of fine cells, colours, the second one mirrored where it is to be."""

    def __init__(self, records: np.ndarray, pairs: np.ndarray, mirrored: np.ndarray) -> None:
        both = records[pairs]
        self.fine = _cells(both["grey"], FINE)  # (n, 2, FINE, FINE)
        self.colour = both["colour"].astype(np.float32) - NO_COLOUR  # (n, 2, 2, 16, 16)
        short = both["size"].min(axis=-1)
        low, high = short.min(axis=1), short.max(axis=1)
        for i in np.flatnonzero((low < REDUCED_SIDE * high) & (low < HIGH_RESOLUTION)):
            blur = _at_resolution(int(low[i]))
            self.fine[i] = _cells(blur @ both["grey"][i] @ blur.T, FINE)
        self.fine[mirrored, 1] = self.fine[mirrored, 1, :, ::-1]
        self.colour[mirrored, 1] = self.colour[mirrored, 1, ..., ::-1]

    def compare(self, framed: np.ndarray, steps: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the difference of each pair, and whether all else speaks for a copy."""
        difference, is_like_a_copy = np.ones(len(self.fine)), np.zeros(len(self.fine), bool)
        cells = _cells(self.fine, COARSE)
        telling = np.flatnonzero((np.ptp(cells, axis=(2, 3)) > NOISE).all(axis=1))
        if not len(telling):  # blank pictures have no correlation with any other
            return difference, is_like_a_copy
        first, second = cells[telling].swapaxes(0, 1).copy()
        framed = framed[telling]
        maps, alike = register(first, second, np.repeat(IDENTITY, len(first), axis=0), steps[0])
        at = np.flatnonzero(framed & (alike < WELL_LAID))
        for begin in STARTS if len(at) else ():
            others, like = register(first[at], second[at], np.repeat(begin[None], len(at), axis=0), START_STEPS)
            better = like > alike[at]
            maps[at[better]], alike[at[better]] = others[better], like[better]
        if len(at):
            maps[at], alike[at] = register(first[at], second[at], maps[at], steps[0])
        hopeful = np.flatnonzero(alike >= HOPELESS)
        if len(hopeful):
            rows = telling[hopeful]
            difference[rows], is_like_a_copy[rows] = self._finely(rows, maps[hopeful], steps[1])
        return difference, is_like_a_copy

    def _finely(self, at: np.ndarray, maps: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        first, second = self.fine[at, 0], self.fine[at, 1]
        maps, _ = register(first, second, maps, steps)
        values, weights, _ = resampled(second, maps)
        grey = np.stack([first.reshape(len(at), -1), values], axis=1)  # (n, 2, FINE²)
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
        brightness = np.einsum("nip,np->ni", grey, weights)
        deviations = np.sqrt(np.einsum("nip,np->ni", (grey - brightness[..., None]) ** 2, weights))
        difference = 1 - _correlation_beside_a_slope(grey, weights)
        contrast = deviations.max(axis=1) / np.maximum(deviations.min(axis=1), 1)
        brighter = np.abs(brightness[:, 0] - brightness[:, 1])
        standard = (grey - brightness[..., None]) / np.sqrt(deviations**2 + NOISE**2)[..., None]
        worst = _worst_block((standard[:, 0] - standard[:, 1]) ** 2, weights)
        max_concentration = np.where(worst > PLAIN_BLOCK, MAX_CONCENTRATION_PLAIN, MAX_CONCENTRATION)
        is_like_a_copy = (
            _within(maps)
            & self._agree_in_colour(at, maps, (contrast < SAME_CONTRAST) & (brighter < SAME_BRIGHTNESS))
            & (contrast < MAX_CONTRAST)
            & (brighter < MAX_BRIGHTER)
            & (worst <= max_concentration * (difference + SMALL))
        )
        return difference, is_like_a_copy

    def _agree_in_colour(self, at: np.ndarray, maps: np.ndarray, as_bright: np.ndarray) -> np.ndarray:
        """Return whether hues agree, both pictures are hardly coloured, or one is the other made grey."""
        first = self.colour[at, 0].reshape(len(at), 2, -1)
        planes = [resampled(self.colour[at, 1, plane], maps) for plane in (0, 1)]
        weights = planes[0][1] / np.maximum(planes[0][1].sum(axis=1, keepdims=True), 1)
        second = np.stack([values for values, _, _ in planes], axis=1)
        products = np.einsum("ncp,ncp,np->n", first, second, weights)
        strengths = np.stack([np.einsum("ncp,ncp,np->n", one, one, weights) for one in (first, second)])
        hues = (products + HUE_NOISE) / np.sqrt((strengths + HUE_NOISE).prod(axis=0))
        made_grey = (strengths.min(axis=0) < GREY) & as_bright
        return (hues > MIN_HUE_AGREEMENT) | (strengths.max(axis=0) < COLOURLESS) | made_grey


def _within(maps: np.ndarray) -> np.ndarray:
    """Return which maps are those of crops, turns and frames: one picture hardly shows what the other does not."""
    scales, shifts = 1 + maps[:, [0, 4]], np.abs(maps[:, [2, 5]])
    outside = np.minimum((scales + shifts).max(axis=1), ((1 + shifts) / scales).max(axis=1)) - 1
    across, down = np.hypot(scales[:, 0], maps[:, 3]), np.hypot(scales[:, 1], maps[:, 1])
    stretch = np.abs(np.log(across / down))
    return (outside <= MAX_OUTSIDE) & (stretch <= MAX_STRETCH) & (maps[:, 1] * maps[:, 3] <= MAX_SHEAR)


def _correlation_beside_a_slope(grey: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the correlations of pairs, shape (n, 2, FINE²), without what a plane explains of either: sky is alike."""
    plane = _plane(FINE)
    weighted = plane * weights[:, None]  # (n, 3, FINE²)
    square = weighted @ plane.T + 1e-6 * np.eye(3)
    fit = np.linalg.solve(square, weighted @ grey.transpose(0, 2, 1))  # (n, 3, 2)
    rest = grey - fit.transpose(0, 2, 1) @ plane
    products = np.einsum("nip,njp,np->nij", rest, rest, weights)
    return products[:, 0, 1] / np.sqrt((products[:, 0, 0] + NOISE**2) * (products[:, 1, 1] + NOISE**2))


@cache
def _plane(side: int) -> np.ndarray:
    """Return what even slopes are made of, shape (3, side²)."""
    centres = np.linspace(-1, 1, side, dtype=np.float32)
    return np.stack([np.ones(side**2, np.float32), np.tile(centres, side), np.repeat(centres, side)])


def _worst_block(squares: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the largest mean of squares in a block, shape (n,); a block counts as half full at least."""
    n, cell = len(squares), FINE // BLOCKS
    inside = (weights > 0).astype(np.float32)
    sums = _block_sums((squares * inside).reshape(n, FINE, FINE), cell)
    counts = _block_sums(inside.reshape(n, FINE, FINE), cell)
    return (sums / np.maximum(counts, cell**2 / 2)).max(axis=(1, 2))


def _cells(grey: np.ndarray, side: int) -> np.ndarray:
    """Return the means of cells, shape (..., side, side)."""
    cell = grey.shape[-1] // side
    return _block_sums(grey, cell) / np.float32(cell**2)


def _block_sums(values: np.ndarray, cell: int) -> np.ndarray:
    """Return the sums of blocks of cell x cell values; sums of slices take a third of the time of `sum` over axes."""
    lines = values[..., ::cell, :].astype(np.float32)
    for i in range(1, cell):
        lines += values[..., i::cell, :]
    sums = lines[..., ::cell].copy()
    for i in range(1, cell):
        sums += lines[..., i::cell]
    return sums


@cache
def _at_resolution(side: int) -> np.ndarray:
    """Return the matrix that makes a line of a picture as blurred as one of `side` pixels, shape (SIDE, SIDE)."""
    lines = Image.fromarray(np.eye(SIDE, dtype=np.float32))
    small = lines.resize((side, SIDE), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small).T
