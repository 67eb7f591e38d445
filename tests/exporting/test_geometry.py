"""Pixels come out of the graph as `Preprocessing` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from cnncodes.exporting import geometry
from cnncodes.exporting.geometry import add_geometry, heights_may_be_first
from cnncodes.exporting.graph import Graph, Value
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.vocabulary import VIEWS

S = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = (
    *((32, 32), (40, 40), (40, 64), (64, 40), (41, 73), (100, 75), (75, 100), (150, 150), (7, 9), (28, 28), (20, 3)),
    *((1, 1), (1, 50), (50, 1), (2, 30), (1000, 50), (30, 700), (161, 10), (10, 161), (129, 33)),
)


def preprocessing(mode: str = "crop", interpolation: str = "bilinear", **settings: object) -> Preprocessing:
    settings = {"resize": 40, "exact": False, "views": "none", **settings}
    return Preprocessing(image_size=S, interpolation=interpolation, mode=mode, mean=MEAN, std=STD, **settings)  # type: ignore[arg-type]


def images(sizes: Iterable[tuple[int, int]]) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for height, width in sizes:
        noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        y, x = np.mgrid[:height, :width]
        smooth = np.stack([x * 3, y * 2, x + y], axis=-1) % 256
        yield from (noise, smooth.astype(np.uint8))


def squares_of(prepared: Preprocessing, graph_runner):
    """Return a function from a batch of images to squares, by the graph."""
    graph = Graph()
    squares = add_geometry(graph, Value(graph, "images", np.dtype(np.uint8)), prepared)
    run = graph_runner(graph, {"squares": squares}, images=np.zeros((1, 1, 1, 3), np.uint8))
    return lambda batch: run(images=batch)["squares"]


def differences(prepared: Preprocessing, graph_runner) -> list[float]:
    """Largest difference of a pixel, in grey levels, for each image."""
    squares, found = squares_of(prepared, graph_runner), []
    sizes = SIZES if prepared.views != "10crop" else SIZES[3:8]
    for image in images(sizes):
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        expected = prepared.normalise(prepared.squares(pixels).reshape(-1, 3, S, S)).numpy()
        got = squares(image[None])
        assert got.shape == expected.shape
        found.append(float(np.abs(got - expected).max()) * 255 * max(STD))
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "crop"},
        {"mode": "pad"},
        {"mode": "squash"},
        {"mode": "crop", "resize": 32},
        {"mode": "crop", "resize": 25},
        {"mode": "crop", "exact": True},
        {"mode": "pad", "interpolation": "bicubic"},
        {"mode": "squash", "interpolation": "bicubic"},
        {"mode": "crop", "views": "flip"},
        {"mode": "crop", "views": "10crop", "resize": 41},
        {"mode": "pad", "views": "10crop", "interpolation": "bicubic"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_pixels_are_those_of_predict(settings, graph_runner):
    largest = np.array(differences(preprocessing(**settings), graph_runner))
    assert (largest > 1e-3).sum() <= 2, "where torch's sums are not exact in float32, a pixel may be a grey level off"
    assert largest.max() < 1.3


def test_a_batch_is_resized_as_its_images_are(graph_runner):
    squares = squares_of(preprocessing(), graph_runner)
    batch = np.random.default_rng(0).integers(0, 256, (3, 61, 50, 3), dtype=np.uint8)
    assert np.array_equal(squares(batch), np.concatenate([squares(one[None]) for one in batch]))


def test_a_rounding_too_many_is_seen(graph_runner, monkeypatch):
    """The comparison is sharp enough: weights that are not rounded as torch does it are found out."""
    monkeypatch.setattr(geometry, "TORCH_LIMIT", 2**12)
    assert max(differences(preprocessing(), graph_runner)) > 0.5


def test_order_of_the_installed_pillow_counts(graph_runner, monkeypatch):
    if not heights_may_be_first():
        pytest.skip("this Pillow resizes widths first")
    monkeypatch.setattr(geometry, "heights_may_be_first", lambda: False)
    assert max(differences(preprocessing(exact=True), graph_runner)) > 0.5


def test_every_kind_of_views_is_cut():
    assert {name: len(cuts) for name, cuts in geometry.CUTS.items()} == VIEWS
