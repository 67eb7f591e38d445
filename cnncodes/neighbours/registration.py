"""Lays one small picture over another: finds the affine map under which the two are most alike.

Gauss-Newton steps on the squared difference of the grey levels, with a gain and an offset that are solved for as well,
so that contrast and brightness do not matter (as in the ECC of Evangelidis and Psarakis 2008). Coordinates run from -1
to 1 along both sides; a map (a, b, c, d, e, f) takes (x, y) of the first picture to ((1 + a) x + b y + c,
d x + (1 + e) y + f) of the second.
"""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["IDENTITY", "STARTS", "register", "resampled"]

MARGIN = 0.03  # share of a side at the edge that is not compared: a border may bleed into it
MAX_MAP = np.array([0.3, 0.2, 0.2, 0.2, 0.3, 0.2], np.float32)  # farther is no small crop or turn
MAX_STEP = 0.1
MIN_OVERLAP = 0.5  # share of the first picture that must lie in the second
MIN_GAIN = 0.1  # of the second picture, by which a step is divided
DAMPING = 1e-3
NOISE = 0.25  # grey levels; a picture that varies less is blank

IDENTITY = np.zeros((1, 6), np.float32)


def _caption(height: float, side: int) -> list[list[float]]:
    """Return the maps to a picture with a strip of this share of its height at one side, and back."""
    return [
        [0, 0, 0, 0, -height, side * height],
        [0, 0, 0, 0, height / (1 - height), -side * height / (1 - height)],
    ]


# Where steps from the identity do not lead: a caption below or above, a border around either picture
_BORDERS = [[scale, 0, 0, 0, scale, 0] for scale in (-0.12, 0.14, -0.2, 0.25)]
STARTS = np.array([*_caption(0.1, -1), *_caption(0.1, 1), *_BORDERS], np.float32)


def register(first: np.ndarray, second: np.ndarray, maps: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Improve maps, and return the best ones met on the way, and the correlation of the two pictures there.

    Parameters
    ----------
    first, second : ndarray of float32, shape (n, side, side)
        Grey levels.
    maps : ndarray of float32, shape (n, 6)
        Where to begin.
    steps : int
        Gauss-Newton steps.

    Returns
    -------
    maps : ndarray of float32, shape (n, 6)
    correlations : ndarray of float32, shape (n,)
    """
    target = first.reshape(len(first), -1)
    best, correlations = maps.copy(), np.full(len(first), -1.0, np.float32)
    for step in range(steps + 1):
        values, weights, slopes = resampled(second, maps, slopes=step < steps)
        overlap = weights.sum(axis=1)
        here = _correlations(target, values, weights, overlap)
        better = (here > correlations) & (overlap > MIN_OVERLAP * target.shape[1])
        best[better], correlations[better] = maps[better], here[better]
        if slopes is not None:
            maps = np.clip(maps + _step(target, values, weights, slopes), -MAX_MAP, MAX_MAP)
    return best, correlations


def resampled(
    pictures: np.ndarray, maps: np.ndarray, *, slopes: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the values of pictures where maps take the points of a picture of the same size.

    Returns
    -------
    values : ndarray of float32, shape (n, side²)
    weights : ndarray of float32, shape (n, side²)
        1 where the point lies within the picture and off its edge, else 0.
    slopes : ndarray of float32, shape (n, 6, side²), or None
        How each value changes with each number of the map.
    """
    n, side, _ = pictures.shape
    x, y = _grid(side)
    at_x = ((1 + maps[:, :1]) * x + maps[:, 1:2] * y + (maps[:, 2:3] + 1)) * (side / 2) - 0.5  # in pixels
    at_y = (maps[:, 3:4] * x + (1 + maps[:, 4:5]) * y + (maps[:, 5:] + 1)) * (side / 2) - 0.5
    low, high = MARGIN * side - 0.5, (1 - MARGIN) * side - 0.5
    weights = ((at_x >= low) & (at_x <= high) & (at_y >= low) & (at_y <= high)).astype(np.float32)
    at_x, at_y = np.clip(at_x, 0, side - 1.001), np.clip(at_y, 0, side - 1.001)
    column, line = at_x.astype(np.int32), at_y.astype(np.int32)
    at_x -= column
    at_y -= line
    flat, corner = pictures.reshape(-1), line * side + column + np.arange(0, n * side**2, side**2)[:, None]
    above, below = flat[corner], flat[corner + side]
    right_above, right_below = flat[corner + 1] - above, flat[corner + side + 1] - below
    above += at_x * right_above
    down = below + at_x * right_below - above
    values = above + at_y * down
    if not slopes:
        return values, weights, None
    along_x = (right_above + at_y * (right_below - right_above)) * weights * (side / 2)
    along_y = down * weights * (side / 2)
    return values, weights, np.stack([along_x * x, along_x * y, along_x, along_y * x, along_y * y, along_y], axis=1)


def _correlations(target: np.ndarray, values: np.ndarray, weights: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    n = np.maximum(overlap, 1)
    weighted = target * weights
    means, other_means = weighted.sum(axis=1) / n, (values * weights).sum(axis=1) / n
    products = np.einsum("ij,ij->i", weighted, values) / n - means * other_means
    squares = np.einsum("ij,ij->i", weighted, target) / n - means**2
    other_squares = np.einsum("ij,ij,ij->i", values, values, weights) / n - other_means**2
    variances = (np.maximum(squares, 0) + NOISE**2) * (np.maximum(other_squares, 0) + NOISE**2)
    return products / np.sqrt(variances)


def _step(target: np.ndarray, values: np.ndarray, weights: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Solve target = gain · (values + slopes · step) + offset for the step, by weighted least squares."""
    rows = np.concatenate([slopes, (values * weights)[:, None], weights[:, None]], axis=1)
    square = (rows @ rows.transpose(0, 2, 1)).astype(np.float64)
    right = (rows @ (target * weights)[..., None]).astype(np.float64)
    diagonal = np.arange(6)
    curvature = square[:, diagonal, diagonal]
    square[:, diagonal, diagonal] += DAMPING * (curvature + np.maximum(curvature.mean(axis=1, keepdims=True), 1))
    square[:, [6, 7], [6, 7]] += DAMPING
    solved = np.linalg.solve(square, right)[..., 0]
    gain = solved[:, 6:7]
    gain = np.where(np.abs(gain) < MIN_GAIN, np.copysign(MIN_GAIN, gain), gain)
    return np.clip(solved[:, :6] / gain, -MAX_STEP, MAX_STEP).astype(np.float32)


@cache
def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of the points of a picture, shape (side²,) each."""
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return x.ravel(), y.ravel()
