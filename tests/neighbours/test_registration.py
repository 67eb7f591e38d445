"""A picture is laid over another by the map that was used to make it, whatever its contrast."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from cnncodes.neighbours.registration import IDENTITY, STARTS, register, resampled

SIDE = 32
MAPS = {
    "nothing": [0, 0, 0, 0, 0, 0],
    "crop": [-0.16, 0, 0.03, 0, -0.14, -0.02],
    "turn": [0, -0.09, 0, 0.09, 0, 0],
    "shift": [0, 0, 0.08, 0, 0, -0.06],
    "enlargement": [0.1, 0, 0, 0, 0.12, 0],
}


def scene(seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), 2)
    return (128 + 60 * noise / noise.std()).astype(np.float32)


def seen_through(picture: np.ndarray, mapping: list[float]) -> np.ndarray:
    """The picture that `mapping` takes into this one, by splines of scipy."""
    a, b, c, d, e, f = mapping
    centres = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = np.meshgrid(centres, centres, indexing="ij")
    lines, columns = d * x + (1 + e) * y + f, (1 + a) * x + b * y + c
    at = [(axis + 1) * SIDE / 2 - 0.5 for axis in (lines, columns)]
    return map_coordinates(picture, at, order=3, mode="nearest").astype(np.float32)


@pytest.mark.parametrize("name", MAPS)
def test_the_map_is_found_whatever_the_contrast(name: str) -> None:
    pictures = np.stack([scene(seed) for seed in range(5)])
    moved = np.stack([seen_through(picture, MAPS[name]) for picture in pictures])
    maps, correlations = register(40 + moved / 2, pictures, np.repeat(IDENTITY, 5, axis=0), 12)
    assert correlations.min() > 0.998
    np.testing.assert_allclose(maps, np.repeat([MAPS[name]], 5, axis=0), atol=0.015)


def test_without_steps_it_is_the_plain_correlation() -> None:
    one, other = scene(0), scene(1)
    maps, correlations = register(one[None], other[None], IDENTITY, 0)
    inner = slice(1, -1)  # the margin is a cell
    assert correlations[0] == pytest.approx(
        np.corrcoef(one[inner, inner].ravel(), other[inner, inner].ravel())[0, 1], abs=1e-3
    )
    np.testing.assert_array_equal(maps, IDENTITY)


def test_the_slopes_are_those_of_differences() -> None:
    picture, step = scene(3)[None], 1e-3
    maps = np.array([[0.05, -0.03, 0.02, 0.04, -0.06, 0.01]], np.float32)
    values, weights, slopes = resampled(picture, maps, slopes=True)
    assert slopes is not None
    for i in range(6):
        more = maps.copy()
        more[0, i] += step
        expected = (resampled(picture, more)[0] - values) / step
        close = np.abs(slopes[0, i] - expected[0])[weights[0] > 0]
        assert np.quantile(close, 0.9) < 0.05 * np.abs(expected).max()  # where no point passes into another cell


@pytest.mark.parametrize("start", range(len(STARTS)))
def test_each_start_is_a_frame_and_its_opposite_leads_back(start: int) -> None:
    scales, shifts = 1 + STARTS[start][[0, 4]], STARTS[start][[2, 5]]
    back = [1 + other[[0, 4]] for other in STARTS if np.allclose(other[[2, 5]], -shifts / scales, atol=0.02)]
    assert any(np.allclose(scales * other, 1, atol=0.01) for other in back)


def test_blank_pictures_are_like_nothing() -> None:
    blank = np.full((1, SIDE, SIDE), 200, np.float32)
    assert abs(register(blank, scene(0)[None], IDENTITY, 3)[1][0]) < 0.01
