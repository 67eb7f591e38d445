"""Colour profiles: the conversion to sRGB by value, and what becomes of profiles that cannot be used."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from bad_images import encode, exif, picture
from icc_profiles import (
    ADOBE_PRIMARIES,
    ADOBE_RGB,
    DISPLAY_P3,
    P3_PRIMARIES,
    SRGB,
    adobe_curve,
    by_hand,
    grey_profile,
    ink_profile,
    srgb_curve,
)
from PIL import Image

from cnncodes.images import profiles
from cnncodes.images.decoding import decode, to_pixels

CHINA = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"
COLOURS = np.stack(np.meshgrid(*[np.arange(0, 256, 17, dtype=np.uint8)] * 3), axis=-1).reshape(64, 64, 3)
KINDS = [
    ("PNG", {}, 0),
    ("TIFF", {}, 0),
    ("WEBP", {"lossless": True}, 0),
    ("JPEG", {"quality": 100, "subsampling": 0}, 12),
]
pillow_remarks = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def levels(data: bytes, **options: bool) -> np.ndarray:
    """Decoded pixels as (H, W, 3), signed."""
    return decode(data, **options).transpose(1, 2, 0).astype(int)


@pytest.mark.parametrize(("kind", "options", "loss"), KINDS)
@pytest.mark.parametrize(
    ("profile", "primaries", "curve"),
    [(ADOBE_RGB, ADOBE_PRIMARIES, adobe_curve), (DISPLAY_P3, P3_PRIMARIES, srgb_curve)],
)
def test_colours_become_those_of_srgb(
    profile: bytes,
    primaries: tuple[tuple[float, float], ...],
    curve: Callable[[np.ndarray], np.ndarray],
    kind: str,
    options: dict,
    loss: int,
) -> None:
    data = encode(COLOURS, kind, icc_profile=profile, **options)
    stored = levels(data, ignore_profiles=True)
    expected = by_hand(stored.astype(np.uint8), primaries, curve)
    assert np.abs(levels(data) - expected).max() <= 1.5
    assert np.abs(stored - COLOURS).max() <= loss
    assert np.abs(expected - stored).mean() > 3  # the profile matters
    assert np.array_equal(levels(encode(COLOURS, kind, **options)), stored)


@pytest.mark.parametrize(("kind", "options", "loss"), KINDS)
def test_a_profile_that_is_srgb_changes_no_bit(kind: str, options: dict, loss: int) -> None:
    with_profile = encode(COLOURS, kind, icc_profile=SRGB, **options)
    assert np.array_equal(decode(with_profile), decode(with_profile, ignore_profiles=True))
    assert not profiles.changes_colours(SRGB)
    assert profiles.changes_colours(DISPLAY_P3)


def test_grey_is_converted_by_a_profile_of_grey() -> None:
    grey = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    light = np.arange(256) / 255
    expected = 255 * np.where(light**1.8 <= 0.0031308, 12.92 * light**1.8, 1.055 * light ** (1.8 / 2.4) - 0.055)
    for image in (
        grey,
        Image.fromarray(np.dstack([grey, np.full_like(grey, 255)]), "LA"),
        grey.astype(np.uint16) * 257,
    ):
        pixels = levels(encode(image, "PNG", icc_profile=grey_profile(1.8)))
        assert np.abs(pixels - expected[None, :, None]).max() <= 2
    jpeg = encode(grey, "JPEG", quality=100, icc_profile=grey_profile(1.8))
    stored = levels(jpeg, ignore_profiles=True)
    assert np.abs(levels(jpeg) - expected[stored]).max() <= 2


def test_transparency_is_laid_over_white_after_the_conversion() -> None:
    alpha = np.full((64, 64, 1), 102, np.uint8)
    pixels = levels(encode(np.concatenate([COLOURS, alpha], axis=2), "PNG", icc_profile=DISPLAY_P3))
    expected = 0.4 * by_hand(COLOURS, P3_PRIMARIES, srgb_curve) + 0.6 * 255
    assert np.abs(pixels - expected).max() <= 1.5


def test_inks_are_converted_by_their_profile() -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[8:, :, 3] = 255
    inks[:8, 8:, 2] = 255
    image = Image.frombytes("CMYK", (16, 16), inks.tobytes())
    for kind in ("JPEG", "TIFF"):
        pixels = levels(encode(image, kind, icc_profile=ink_profile()))
        assert np.abs(pixels[0, 0] - 255).max() <= 2  # paper
        assert np.abs(pixels[15, 0]).max() <= 2  # black stays black
        yellow = pixels[0, 15]
        assert yellow[2] < yellow[1] - 40  # Lab (90, 0, 70)
        assert levels(encode(image, kind))[0, 15].tolist() in ([255, 255, 0], [254, 255, 0], [255, 255, 1])


@pillow_remarks
@pytest.mark.parametrize(
    ("image", "profile", "words"),
    [
        (picture(), b"no profile at all", "cannot be used"),
        (picture(), DISPLAY_P3[:200], "cannot be used"),
        (picture(), grey_profile(1.8), "for L and not for RGB"),
        (picture()[..., 0], ink_profile(), "for CMYK and not for L"),
    ],
)
def test_a_profile_that_cannot_be_used_is_a_remark(image: np.ndarray, profile: bytes, words: str) -> None:
    for kind in ("PNG", "JPEG"):
        data, remarks = encode(image, kind, icc_profile=profile), list[str]()
        pixels = decode(data, remarks=remarks)
        assert np.array_equal(pixels, decode(data, ignore_profiles=True))
        assert len(remarks) == 1
        assert words in remarks[0]
        assert "taken as sRGB" in remarks[0]


def test_reduced_and_turned_photographs_are_converted_too() -> None:
    photo = Image.open(CHINA)
    data = encode(photo, "JPEG", quality=95, icc_profile=DISPLAY_P3, exif=exif(6))
    reduced = decode(data, enough=lambda width, height: (width // 2, height // 2))
    assert reduced.shape == (3, 320, 214)
    plain = decode(data, enough=lambda width, height: (width // 2, height // 2), ignore_profiles=True)
    expected = by_hand(plain.transpose(1, 2, 0), P3_PRIMARIES, srgb_curve).transpose(2, 0, 1)
    assert np.abs(reduced - expected).max() <= 2
    assert np.abs(reduced.astype(int) - plain).mean() > 1


def test_images_in_memory_are_converted_like_files() -> None:
    data = encode(COLOURS, "PNG", icc_profile=ADOBE_RGB)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(to_pixels(image), decode(data))
        assert np.array_equal(to_pixels(image, ignore_profiles=True), decode(data, ignore_profiles=True))
        assert np.array_equal(to_pixels(image.convert("RGB")), decode(data))


def test_a_transform_is_made_once_and_serves_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles._transform.cache_clear()
    made = []
    build = profiles.ImageCms.buildTransform
    monkeypatch.setattr(profiles.ImageCms, "buildTransform", lambda *given: made.append(1) or build(*given))
    rng = np.random.default_rng(0)
    files = [
        encode(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), "PNG", icc_profile=profile)
        for profile in (ADOBE_RGB, DISPLAY_P3)
        for _ in range(10)
    ]
    alone = [decode(data).tobytes() for data in files]
    assert len(made) == 2
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda data: decode(data).tobytes(), files * 5)) == alone * 5
    assert len(made) == 2
