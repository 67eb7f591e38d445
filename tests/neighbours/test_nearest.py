"""Nearest rows: whitened codes are those of the covariance, whichever side is smaller, and no row is missed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from cnncodes.neighbours import nearest
from cnncodes.neighbours.nearest import RIDGE, nearest_pictures, nearest_rows, standardised, unit_rows, whitened
from cnncodes.neighbours.pictures import plain_differences, plain_parts


def test_nearest_rows_are_those_of_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    Z = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    full = pairwise_distances(Z)
    np.fill_diagonal(full, np.inf)
    monkeypatch.setattr("cnncodes.neighbours.nearest.BLOCK_DISTANCES", 50 * 8)  # seven blocks
    rows, distances = nearest_rows(Z, 4)
    np.testing.assert_array_equal(rows, np.argsort(full, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(full, axis=1)[:, :4], atol=1e-3)


def test_whitened_codes_have_no_correlations_and_dead_columns_do_not_count() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5)) @ rng.normal(size=(5, 5)) + 100
    Z = whitened(np.hstack([X, np.full((4000, 1), 7.0)]))
    assert Z.shape == (4000, 6)
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-5)
    values = np.linalg.eigvalsh(np.cov(Z.T))
    assert values[0] < 1e-9  # the dead one
    assert values[-1] / values[1] < 1.6
    assert np.linalg.cond(np.cov(X.T)) > 20


def whitened_by_covariance(X: np.ndarray) -> np.ndarray:
    """The formula with all n_features directions, in float64."""
    Z = standardised(X).astype(np.float64)
    variances, directions = np.linalg.eigh(Z.T @ Z / len(Z))
    ridge = RIDGE * Z.shape[1] / len(Z) * variances.mean() + np.finfo(np.float32).tiny
    Z = Z @ (directions / np.sqrt(np.maximum(variances, 0) + ridge))
    return Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def random_codes(n: int, d: int, rank: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(n + d)
    X = rng.normal(size=(n, d)) if rank is None else rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))
    return (X * rng.gamma(1, size=d) + 3).astype(np.float32)


CODES = {
    "fewer images than features": random_codes(40, 90),
    "as many": random_codes(50, 50),
    "more images": random_codes(90, 40),
    "rank-deficient, few images": random_codes(40, 90, rank=5),
    "rank-deficient, many images": random_codes(90, 40, rank=5),
    "dead columns": np.hstack([random_codes(40, 60), np.full((40, 30), 2.5, np.float32)]),
    "all images equal": np.repeat(random_codes(1, 70), 30, axis=0),
    "pairs of equal images": np.repeat(random_codes(20, 70), 2, axis=0),
    "one image": random_codes(1, 8),
    "two images": random_codes(2, 8),
    "three images": random_codes(3, 8),
    "one feature": random_codes(9, 1),
}


@pytest.mark.parametrize("X", CODES.values(), ids=CODES)
def test_whitened_codes_are_those_of_the_covariance(X: np.ndarray) -> None:
    Z, reference = whitened(X), whitened_by_covariance(X)
    assert Z.dtype == np.float32
    assert Z.shape == (len(X), min(X.shape))  # 90 directions cost 90**3, and 40 images have no more than 40
    np.testing.assert_allclose(Z @ Z.T, reference @ reference.T, atol=2e-6)  # directions are unique but for their sign
    if len(X) > 3:
        np.testing.assert_allclose(nearest_rows(Z, 3)[1], nearest_rows(reference.astype(np.float32), 3)[1], atol=2e-3)


@pytest.mark.parametrize("n", [30, 90])
def test_equal_images_stay_equal_when_they_are_whitened(n: int) -> None:
    X = random_codes(n, 60)
    X[7] = X[3]
    Z = whitened(X)
    np.testing.assert_allclose(Z[7], Z[3], atol=1e-6)


def test_more_features_than_are_whitened_are_standardised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.neighbours.nearest.MAX_FEATURES", 89)
    X = CODES["fewer images than features"]
    np.testing.assert_array_equal(whitened(X), unit_rows(standardised(X)))


def test_unit_rows_have_length_1_but_for_zeros_and_leave_the_input() -> None:
    X = np.array([[[3.0, 4.0]], [[0.0, 0.0]], [[1e-20, 0.0]]])
    before = X.copy()
    np.testing.assert_allclose(unit_rows(X), [[[0.6, 0.8]], [[0.0, 0.0]], [[1.0, 0.0]]])
    np.testing.assert_array_equal(X, before)
    assert unit_rows(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("shape", [(300, 20), (20, 300)])
def test_directions_are_found_in_as_many_threads_as_their_matrix_pays_for(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    within: list[tuple[int, ...]] = []

    @contextlib.contextmanager
    def few_threads(X: np.ndarray) -> Iterator[None]:
        within.append(X.shape)
        yield
        within.pop()

    def eigh(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert within[-1] == square.shape == (20, 20)
        return np.linalg.eigvalsh(square), np.eye(20)

    monkeypatch.setattr("cnncodes.neighbours.nearest.few_threads", few_threads)
    monkeypatch.setattr("cnncodes.neighbours.nearest.np.linalg.eigh", eigh)
    assert whitened(random_codes(*shape)).shape == (shape[0], 20)


def test_nearest_pictures_are_those_of_every_pair_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (30, 64, 64), np.uint8)
    parts = plain_parts(pictures)
    pairs = np.array([(i, j) for i in range(30) for j in range(30) if i != j])
    every = plain_differences(parts, pairs)[0].reshape(30, 29)
    expected = np.sort(every, axis=1)[:, :4]
    rows, differences = nearest_pictures(parts, 4)
    np.testing.assert_allclose(differences, expected, atol=1e-5)
    assert (rows != np.arange(30)[:, None]).all()
    monkeypatch.setattr(nearest, "BLOCK_DISTANCES", 30 * 7)
    np.testing.assert_array_equal(nearest_pictures(parts, 4)[0], rows)
