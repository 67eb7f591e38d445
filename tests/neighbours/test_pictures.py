"""Small pictures of one image are told from those of another that looks like it."""

from __future__ import annotations

import io
from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
from photo_tiles import CHANGES, tiles
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from cnncodes.codes.thumbnails import pack
from cnncodes.images.image_set import ImageSet
from cnncodes.neighbours import pictures
from cnncodes.neighbours.copies import MAX_DIFFERENCE
from cnncodes.neighbours.pictures import compare_pictures, plain_differences, plain_parts
from cnncodes.neighbours.thumbnails import read_thumbnails


def poor(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.resize((40, 40)).save(stream, "JPEG", quality=30)
    return Image.open(io.BytesIO(stream.getvalue()))


def captioned(image: Image.Image) -> Image.Image:
    whole = ImageOps.expand(image, (0, 0, 0, 13), "black")
    ImageDraw.Draw(whole).text((3, image.height), "IMG 1234", fill="white")
    return whole


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{change.__name__: change for change in CHANGES},
    "poor": poor,
    "a quarter": lambda image: image.resize((26, 26)),
    "cropped by a tenth": lambda image: image.crop((10, 10, 96, 96)),
    "turned": lambda image: image.rotate(5, Image.Resampling.BICUBIC),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "half the contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.5),
    "framed": lambda image: ImageOps.expand(image, 7, "black"),
    "captioned": captioned,
}
SCENE = tiles()[6]


def pair(one: Image.Image, other: Image.Image) -> tuple[float, bool]:
    images = ImageSet(["a", "b"], [one, other])
    records, pairs = read_thumbnails(images, range(2)), np.array([[0, 1]])
    mirrored = plain_differences(plain_parts(records["grey"]), pairs)[1]
    compared = compare_pictures(records, pairs, mirrored, framed=np.ones(1, bool))
    return float(compared.difference[0]), bool(compared.is_like_a_copy[0])


@pytest.mark.parametrize("change", COPIES)
def test_a_changed_copy_is_like_the_image(change: str) -> None:
    difference, is_like_a_copy = pair(SCENE, COPIES[change](SCENE))
    assert is_like_a_copy
    assert difference < 0.1


@pytest.mark.parametrize("other", [5, 7, 8, 10, 30])
def test_another_tile_of_the_photograph_differs(other: int) -> None:
    assert pair(SCENE, tiles()[other])[0] > 0.3


def test_a_shifted_view_of_the_scene_is_no_copy() -> None:
    wide = SCENE.resize((212, 212))
    left, right = wide.crop((0, 0, 160, 212)), wide.crop((30, 0, 190, 212))
    assert not pair(left, right)[1]


@pytest.mark.parametrize("radius", [6, 8, 13])
def test_another_object_on_the_same_ground_is_no_copy(radius: int) -> None:
    one, other = SCENE.copy(), SCENE.copy()
    ImageDraw.Draw(one).ellipse((53 - radius, 53 - radius, 53 + radius, 53 + radius), fill=(250, 250, 250))
    ImageDraw.Draw(other).rectangle((55 - radius, 50 - radius, 52 + radius, 57 + radius), fill=(10, 10, 10))
    difference, is_like_a_copy = pair(one, other)
    assert difference > MAX_DIFFERENCE or not is_like_a_copy


def sign(symbol: str) -> Image.Image:
    image = Image.new("RGB", (120, 120), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 10, 110, 110), outline="red", width=12)
    draw.rectangle((40, 62, 80, 84), fill="black")
    if symbol == "dot":
        draw.ellipse((50, 36, 70, 54), fill="black")
    elif symbol == "triangle":
        draw.polygon([(42, 54), (60, 34), (78, 54)], outline="black", fill="yellow")
    else:
        draw.line((44, 40, 76, 54), fill="black", width=5)
    return image


@pytest.mark.parametrize("symbols", [("dot", "triangle"), ("dot", "bar"), ("triangle", "bar")])
def test_two_drawings_with_one_part_in_common_are_no_copies(symbols: tuple[str, str]) -> None:
    assert not pair(*map(sign, symbols))[1]
    assert pair(sign(symbols[0]), COPIES["cropped by a tenth"](sign(symbols[0]).resize((106, 106))))[1]


def test_the_same_shape_in_another_colour_is_no_copy() -> None:
    pixels = np.asarray(SCENE).astype(float).mean(axis=2, keepdims=True)
    red, green = (
        Image.fromarray(np.clip(pixels * tint, 0, 255).astype(np.uint8)) for tint in ([1.2, 0.9, 0.6], [0.7, 1.1, 0.9])
    )
    assert pair(red, green) == (pytest.approx(0, abs=0.02), False)


def test_an_even_slope_is_like_nothing() -> None:
    ramp = np.linspace(50, 200, 100)
    down, across = (
        Image.fromarray(np.broadcast_to(one, (100, 100)).astype(np.uint8)) for one in (ramp[:, None], 30 + ramp / 2)
    )
    assert pair(down, across.rotate(90))[0] > 0.5


def test_the_plain_difference_is_that_of_numpy_as_it_is_or_mirrored() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    pictures = np.concatenate([pictures, pictures[:1, :, ::-1]])
    pairs = np.array([[0, 1], [1, 2], [0, 3]])
    differences, mirrored = plain_differences(plain_parts(pictures), pairs)
    cells = pictures.reshape(4, 16, 4, 16, 4).mean(axis=(2, 4))
    for (i, j), difference, is_mirrored in zip(pairs, differences, mirrored, strict=True):
        plain = [np.corrcoef(cells[i].ravel(), other.ravel())[0, 1] for other in (cells[j], cells[j][:, ::-1])]
        assert difference == pytest.approx(1 - max(plain), abs=2e-2)  # a little noise lowers it
        assert is_mirrored == (plain[1] > plain[0])


def test_pairs_are_compared_in_chunks_as_one_by_one() -> None:
    images = tiles()[:24]
    records = np.concatenate(
        [pack(np.asarray(image.resize((64, 64)))[None], np.array([image.size])) for image in images]
    )
    pairs = np.array([(i, j) for i in range(24) for j in range(i)])
    mirrored = np.arange(len(pairs)) % 3 == 0
    every = compare_pictures(records, pairs, mirrored, framed=mirrored)
    for i in range(0, len(pairs), 17):
        alone = compare_pictures(records, pairs[i : i + 1], mirrored[i : i + 1], framed=mirrored[i : i + 1])
        assert every.difference[i] == pytest.approx(alone.difference[0], abs=1e-4)
        assert every.is_like_a_copy[i] == alone.is_like_a_copy[0]


def test_blank_pictures_are_no_copies_of_anything_without_being_laid_over_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((40, 64, 64, 3), 255, np.uint8)
    pixels[10:20, ::9, ::7] -= 1  # as a lossy file has it
    pixels[20:] = rng.integers(0, 256, (20, 1, 64, 3), dtype=np.uint8) // rng.integers(1, 200, (20, 1, 1, 1))
    records = pack(pixels, np.full((40, 2), 64))
    pairs = np.array([(i, j) for i in range(40) for j in range(i)])
    mirrored, framed = np.zeros(len(pairs), bool), np.ones(len(pairs), bool)
    fast = compare_pictures(records, pairs, mirrored, framed=framed)
    laid = Mock(side_effect=pictures.register)
    monkeypatch.setattr(pictures, "register", laid)
    compare_pictures(records[:20], pairs[:190], mirrored[:190], framed=framed[:190])
    assert not laid.called
    monkeypatch.setattr(pictures, "NOISE", -1.0)  # each counts as telling
    slow = compare_pictures(records, pairs, mirrored, framed=framed)
    np.testing.assert_array_equal(fast.is_like_a_copy, slow.is_like_a_copy)
    np.testing.assert_allclose(fast.difference, slow.difference, atol=1e-6)
    assert fast.is_like_a_copy[:190].sum() == 0
