"""Copies are found by codes and pictures together, in clusters too, and not where all images are alike."""

from __future__ import annotations

import numpy as np
import pytest
from photo_tiles import tiles
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cnncodes.codes.thumbnails import blank, pack
from cnncodes.neighbours.copies import find_copies, pairs_of, usual_distance
from cnncodes.neighbours.pictures import detail


def records_of(images: list[Image.Image]) -> np.ndarray:
    small = np.stack([np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)) for image in images])
    return pack(small, np.array([image.size for image in images]))


def neighbours_of(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours by codes that say nothing: ten others at random, all nearly as far."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(np.delete(np.arange(n), i))[:10] for i in range(n)])
    return rows, 1 + 0.01 * np.sort(rng.random((n, 10)), axis=1)


def found(records: np.ndarray) -> set[tuple[int, int]]:
    return found_with(records, *neighbours_of(len(records)))


def found_with(records: np.ndarray, neighbours: np.ndarray, distances: np.ndarray) -> set[tuple[int, int]]:
    pairs, difference = find_copies(records, neighbours, distances)
    assert (difference < 0.15).all()
    return {(int(i), int(j)) for i, j in pairs}


def test_copies_are_found_where_the_codes_say_nothing() -> None:
    images = tiles()[:20]
    images += [images[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT), images[7].resize((30, 30))]
    assert found(records_of(images)) == {(3, 20), (7, 21)}


def test_all_copies_of_a_cluster_are_found() -> None:
    images = tiles()[:20]
    images += [images[5].resize((side, side)) for side in (40, 60, 80, 90)]
    cluster = [5, 20, 21, 22, 23]
    assert found(records_of(images)) == {(i, j) for i in cluster for j in cluster if i < j}


def burst(scene: Image.Image, n: int, noise: float = 4) -> list[Image.Image]:
    """Frames of one scene: each with its own noise and a slightly other exposure."""
    rng = np.random.default_rng(0)
    pixels = np.asarray(scene).astype(float)
    frames = [pixels + rng.normal(0, noise, pixels.shape) + rng.normal(0, 2) for _ in range(n)]
    return [Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8)) for frame in frames]


@pytest.mark.parametrize("n", [8, 12, 20])
def test_clusters_with_more_copies_than_candidates_stay_together(n: int) -> None:
    others = tiles()[:20]
    pairs = np.array(sorted(found(records_of([*burst(tiles()[25], n), *burst(tiles()[26], n), *others]))))
    assert (pairs[:, 0] // n == pairs[:, 1] // n).all()
    assert pairs.max() < 2 * n
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(2 * n, 2 * n))
    assert connected_components(links, directed=False)[0] == 2


def test_pairs_that_codes_tell_are_kept_where_pictures_differ_little() -> None:
    k = 9
    images = [*burst(tiles()[7], k, noise=35), *tiles()[10:22]]
    rows, distances = neighbours_of(len(images))
    for i in range(k):  # eight copies, and two others
        rows[i] = [*np.delete(np.arange(k), i), 10 + i, 11 + i]
        distances[i, : k - 1] = 0.5
    assert found_with(records_of(images), rows, distances) == {(i, j) for i in range(k) for j in range(i + 1, k)}


def test_plain_pictures_that_are_nearly_equal_are_no_copies() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64))
    bends = 12 + 0.2 * np.arange(12)
    skies = [Image.fromarray(np.uint8(150 + 20 * y + bend * (x**2 + y**2))).convert("RGB") for bend in bends]
    assert detail(records_of(skies)["grey"]).max() < 12
    assert found(records_of([*skies, *tiles()[:20]])) == set()


def test_images_that_are_all_alike_are_no_copies() -> None:
    scene = np.asarray(tiles()[9]).astype(float)
    rng = np.random.default_rng(0)
    alike = []
    for _ in range(20):
        bumps = Image.fromarray(rng.normal(0, 12, (12, 12)).astype(np.float32)).resize(
            (106, 106), Image.Resampling.BICUBIC
        )
        alike.append(Image.fromarray(np.clip(scene + np.asarray(bumps)[..., None], 0, 255).astype(np.uint8)))
    assert found(records_of(alike)) == set()
    assert found(records_of([*alike, alike[4].resize((70, 70))])) == {(4, 20)}


def test_an_image_without_a_picture_is_in_no_pair() -> None:
    records = records_of([*tiles()[:12], *tiles()[:12]])
    assert found(records) == {(i, i + 12) for i in range(12)}
    records[:3] = blank(3)
    assert found(records) == {(i, i + 12) for i in range(3, 12)}


@pytest.mark.parametrize("n", [3, 4, 6])
def test_few_images_are_enough(n: int) -> None:
    images = [*tiles()[: n - 1], tiles()[0].resize((50, 50))]
    others = np.stack([np.delete(np.arange(n), i) for i in range(n)])
    pairs, _ = find_copies(records_of(images), others, np.ones(others.shape))
    assert pairs.tolist() == [[0, n - 1]]


def test_the_usual_distance_stands_after_the_last_wide_gap() -> None:
    apart = np.array([[0.5, 0.001, 0.4, 0.002], [0.03, 0.2, 0.4, 0.5], [0.001, 0.0011, 0.0012, 0.0013]])
    np.testing.assert_allclose(usual_distance(apart, 0.2, 0.02), [0.4, 0.2, 0.0011])


def test_pairs_are_listed_once() -> None:
    pairs, place = pairs_of(np.array([[1, 2], [0, 2], [0, 0]]))
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert place.tolist() == [[0, 1], [0, 2], [1, 1]]
