"""Near-duplicates: found by their codes and pictures, and never on both sides of a split."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from cnncodes import extract
from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError
from cnncodes.images.image_set import ImageSet
from cnncodes.images.loading import load_images
from cnncodes.neighbours.duplicates import Duplicates, find_duplicates, join_groups
from cnncodes.neighbours.thumbnails import alike_in_colour, difference, read_thumbnails

TILE = 106


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def recompressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return Image.open(io.BytesIO(stream.getvalue()))


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((5, 4, image.width - 3, image.height - 5))


def resized(image: Image.Image) -> Image.Image:
    return image.resize((64, 64), Image.Resampling.BICUBIC)


CHANGES = (mirrored, recompressed, cropped, resized)


def tiles() -> list[Image.Image]:
    """Disjoint tiles of two photographs, but for those of plain sky."""
    cuts = [
        Image.fromarray(pixels[top : top + TILE, left : left + TILE])
        for pixels in load_sample_images().images
        for top in range(0, pixels.shape[0] - TILE + 1, TILE)
        for left in range(0, pixels.shape[1] - TILE + 1, TILE)
    ]
    return [cut for cut in cuts if np.asarray(cut.convert("L")).std() > 10]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """38 tiles in two classes and two splits, and of every second one a changed copy in the split `train`."""
    root = tmp_path_factory.mktemp("planted")
    for i, tile in enumerate(tiles()):
        split, label = ("test", "train")[i % 3 > 0], ("china", "flower")[i >= 24]
        folder = root / "images" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        tile.save(folder / f"{i:02d}.png")
        if i % 2:
            copies = root / "images" / "train" / label
            copies.mkdir(parents=True, exist_ok=True)
            CHANGES[i // 2 % 4](tile).save(copies / f"{i:02d}-copy.png")
    shutil.copy(root / "images/train/china/01.png", root / "images/train/china/01-again.png")
    extract(root / "images", root / "codes.h5", layers=["penultimate"])
    return root


def number(name: str) -> str:
    return Path(name).name[:2]


def test_changed_copies_are_found_by_their_pictures(planted: Path) -> None:
    with CodesFile.open(planted / "codes.h5") as file:
        found = find_duplicates(file, file.rows(), planted / "images")
        names = file.ids[file.rows()][found.pairs].tolist()
    assert all(number(first) == number(second) for first, second in names)
    copied = {number(first) for first, _ in names}
    assert len(copied) >= 18  # of 19
    assert [pair for pair, exact in zip(names, found.exact, strict=True) if exact] == [
        ["train/china/01-again.png", "train/china/01.png"]
    ]
    assert (found.similarity > 0.9).all()


def test_codes_alone_find_fewer_and_no_false_ones(planted: Path) -> None:
    with CodesFile.open(planted / "codes.h5") as file:
        found = find_duplicates(file, file.rows())
        names = file.ids[file.rows()][found.pairs].tolist()
    assert all(number(first) == number(second) for first, second in names)
    assert len({number(first) for first, _ in names}) >= 9


@pytest.mark.parametrize("seed", range(4))
def test_images_that_are_not_given_are_compared_by_their_codes(planted: Path, seed: int) -> None:
    images = load_images(planted / "images")
    given = np.random.default_rng(seed).permutation(len(images))[: len(images) // 2]
    with CodesFile.open(planted / "codes.h5") as file:
        found = find_duplicates(file, file.rows(), images.take(given.tolist()))
        by_codes = find_duplicates(file, file.rows())
        names = file.ids[file.rows()]
    assert "29 of 58 images are not among those given: compared by their codes alone" in found.notes
    assert found.by_codes
    assert all(number(first) == number(second) for first, second in names[found.pairs])
    absent = ~np.isin(names, np.array(images.ids)[given])
    expected = {tuple(pair) for pair in by_codes.pairs.tolist() if absent[pair].any()}
    assert {tuple(pair) for pair in found.pairs.tolist() if absent[pair].any()} == expected


def test_images_of_another_place_are_refused(planted: Path, photos: Path) -> None:
    with CodesFile.open(planted / "codes.h5") as file, pytest.raises(ImagesError, match="58 of the 58 images"):
        find_duplicates(file, file.rows(), photos)


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


def test_groups_are_joined_through_chains() -> None:
    pairs = np.array([[0, 1], [2, 3]])
    joined = join_groups(np.array(["", "a", "a", "", "b", "", "b"]), Duplicates(pairs, np.ones(2), np.ones(2, bool)))
    assert joined[0] == joined[1] == joined[2] == joined[3] != ""
    assert joined[4] == joined[6] != joined[0]
    assert joined[5] == ""
