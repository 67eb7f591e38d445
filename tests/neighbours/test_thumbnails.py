"""Small versions of images are alike where one picture was changed, and differ where two were taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photo_tiles import CHANGES, tiles
from PIL import Image

from cnncodes.images.image_set import ImageSet
from cnncodes.images.loading import load_images
from cnncodes.neighbours.thumbnails import alike_in_colour, difference, read_thumbnails


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_differs_less_than_another_picture(change) -> None:
    china = tiles()[6:10]
    images = [china[0], change(china[0]), *china[1:]]
    thumbnails = read_thumbnails(load_images(images), range(len(images)))
    pairs = np.array([[0, 1], [0, 2], [1, 2], [0, 3], [0, 4]])
    found = difference(thumbnails, pairs)
    assert found[0] < 0.05
    assert found[1:].min() > 4 * found[0]


def test_the_difference_is_that_of_plain_correlation_where_nothing_is_moved() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 64, 64), dtype=np.uint8)
    other[:, :32] = one[:, :32]
    thumbnails = read_thumbnails(ImageSet(["a", "b"], [one, other]), range(2))
    cells = [image.reshape(32, 2, 32, 2).mean(axis=(1, 3)).ravel() for image in (one, other)]
    assert difference(thumbnails, np.array([[0, 1]]))[0] == pytest.approx(1 - np.corrcoef(*cells)[0, 1], abs=1e-3)


def test_unreadable_images_and_other_colours_are_no_duplicates(tmp_path: Path) -> None:
    picture = np.asarray(tiles()[9])
    for name, pixels in (("a", picture), ("b", picture), ("red", picture // 2 + np.uint8([120, 0, 0]))):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"")
    images = load_images(tmp_path, labelled=False)
    at = {name: row for row, name in enumerate(images.ids)}
    thumbnails = read_thumbnails(images, range(4))
    pairs = np.array([[at["a.png"], at[other]] for other in ("b.png", "c.png", "red.png")])
    found = difference(thumbnails, pairs)
    np.testing.assert_allclose(found[:2], [0, 1], atol=0.001)
    assert found[2] < 0.01  # the same shades of grey
    assert alike_in_colour(thumbnails, pairs).tolist() == [True, False, False]
