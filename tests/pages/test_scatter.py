"""The map: like codes lie together, and a few images have places, too."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.pages.scatter import lay_out


def test_like_codes_lie_together() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    X = rng.normal(size=(120, 30)) + 6 * rng.normal(size=(3, 30))[y]
    places = lay_out(X)
    assert places[:, 0].min() == pytest.approx(0)
    assert places[:, 0].max() == pytest.approx(1)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(120)
    assert np.mean(y[distances.argmin(axis=1)] == y) > 0.99
    np.testing.assert_array_equal(places, lay_out(X))


@pytest.mark.parametrize("n", [0, 1, 2, 4, 6])
def test_a_few_images_can_be_laid_out(n: int) -> None:
    places = lay_out(np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32))
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()


@pytest.mark.parametrize("scale", ["shrunk", "standard", "l2", "none"])
@pytest.mark.parametrize(
    "codes",
    [
        np.ones((12, 5)),
        np.zeros((12, 5)),
        np.full((12, 5), 6e4),
        np.repeat(np.eye(2, 5), 6, axis=0),
        np.repeat(np.eye(5), 4, axis=0),
        np.eye(12, 5)[::-1] * 1e-30,
        np.column_stack([np.arange(12), np.ones((12, 4))]),
        np.ones((12, 1)),
        1 + np.finfo(np.float32).eps * np.eye(12, 5),
    ],
    ids=["ones", "zeros", "huge", "two kinds", "five kinds", "tiny", "constant columns", "one column", "rounding"],
)
def test_codes_without_spread_can_be_laid_out(codes: np.ndarray, scale: str) -> None:
    codes = codes.astype(np.float32)
    places = lay_out(codes, scale=scale)  # type: ignore[arg-type]
    assert np.isfinite(places).all()
    for other in range(1, len(codes)):  # equal codes have one place
        if np.array_equal(codes[other], codes[0]):
            np.testing.assert_array_equal(places[other], places[0])
