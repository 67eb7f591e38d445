"""Transparency, depth and range, by value: what ends in colours, and what is remarked."""

from __future__ import annotations

import io
import struct
import zlib
from itertools import product

import numpy as np
import pytest
from bad_images import COLOURS, Expectation, encode, picture, png_of
from icc_profiles import DISPLAY_P3, P3_PRIMARIES, by_hand, srgb_curve
from PIL import Image, ImageDraw

from cnncodes.images.decoding import decode, to_pixels

RAMP = np.linspace(0, 4095, 64).round().astype(np.uint16).reshape(4, 16)
FULL_RANGE = np.rint(RAMP * (255 / 4095))
DARK = np.rint(RAMP * (255 / 65535))


def decoded(data: bytes) -> tuple[np.ndarray, list[str]]:
    """Pixels (H, W, 3), and the remarks."""
    remarks: list[str] = []
    return decode(data, remarks=remarks).transpose(1, 2, 0), remarks


def tga(pixels: np.ndarray, alpha_bits: int, *, footer: bool = True) -> bytes:
    """An uncompressed TGA of BGRA (H, W, 4), from the top."""
    height, width, _ = pixels.shape
    header = struct.pack("<BBB5xHHHHBB", 0, 0, 2, 0, 0, width, height, 32, 0x20 | alpha_bits)
    return header + pixels.tobytes() + (bytes(8) + b"TRUEVISION-XFILE.\0") * footer


def with_alpha(alpha: int | np.ndarray) -> np.ndarray:
    rgb = picture()
    return np.dstack([rgb, np.broadcast_to(np.asarray(alpha, np.uint8), rgb.shape[:2])])


@pytest.mark.parametrize("footer", [True, False])
def test_a_fourth_channel_that_is_no_alpha_is_left_out(footer: bool) -> None:
    for alpha in (0, 7):
        pixels, remarks = decoded(tga(with_alpha(alpha)[..., [2, 1, 0, 3]], 0, footer=footer))
        assert np.array_equal(pixels, picture())
        assert not remarks
    pixels, _ = decoded(tga(with_alpha(102)[..., [2, 1, 0, 3]], 8, footer=footer))
    assert np.abs(pixels - (0.4 * picture() + 0.6 * 255)).max() <= 1


def test_where_all_is_transparent_the_colours_beneath_are_taken() -> None:
    files = {kind: encode(with_alpha(0), kind) for kind in ("PNG", "TIFF")}
    files["WEBP"] = encode(with_alpha(0), "WEBP", lossless=True, exact=True)
    for data in (*files.values(), tga(with_alpha(0)[..., [2, 1, 0, 3]], 8)):
        pixels, remarks = decoded(data)
        assert np.array_equal(pixels, picture())
        assert remarks == ["it is transparent everywhere: the colours beneath were taken"]
    blank = np.zeros((8, 8, 4), np.uint8)
    pixels, remarks = decoded(encode(blank, "PNG"))
    assert (pixels == 255).all()
    assert remarks == ["all of it is one colour, or nearly"]


def test_white_lines_on_a_clear_ground_are_laid_over_black() -> None:
    drawing = Image.new("RGBA", (64, 48), (255, 255, 255, 0))
    ImageDraw.Draw(drawing).line((5, 5, 60, 40), fill="white", width=3)
    palette = drawing.getchannel("A").point(lambda value: value > 0)
    palette.putpalette([255] * 6)
    for image, options in ((drawing, {}), (drawing.convert("LA"), {}), (palette, {"transparency": 0})):
        pixels, remarks = decoded(encode(image, "PNG", **options))
        assert np.array_equal(pixels, np.repeat(np.asarray(drawing)[..., 3:], 3, axis=2))
        assert remarks == ["white on a clear ground: laid over black"]
        assert np.array_equal(to_pixels(image) if not options else pixels.transpose(2, 0, 1), pixels.transpose(2, 0, 1))
    ImageDraw.Draw(drawing).point((2, 2), fill=(0, 0, 0, 255))
    pixels, remarks = decoded(encode(drawing, "PNG"))
    assert pixels[20, 60].tolist() == [255, 255, 255]
    assert not [remark for remark in remarks if "black" in remark]


def bits_of_png(bits: int) -> tuple[bytes, bytes]:
    return b"sBIT", bytes([bits])


@pytest.mark.parametrize(
    ("data", "expected", "dark"),
    [
        (png_of(RAMP, 16, 0, bits_of_png(12)), FULL_RANGE, False),
        (png_of(RAMP, 16, 0), DARK, True),
        (png_of(RAMP << 4 | RAMP >> 8, 16, 0, bits_of_png(12)), FULL_RANGE, False),  # shifted up, as PNG demands
        (png_of(RAMP // 256 * 16, 16, 0, bits_of_png(12)), np.rint(RAMP // 256 * 16 / 257), True),  # the same, dark
        (encode(RAMP, "TIFF", tiffinfo={281: 4095}), FULL_RANGE, False),
        (encode(RAMP, "TIFF", tiffinfo={341: 4095}), FULL_RANGE, False),
        (encode(RAMP, "TIFF", tiffinfo={281: 4000}), DARK, True),  # no number of bits: the largest value of an image
        (encode(RAMP, "TIFF", tiffinfo={281: 1023}), DARK, True),  # wrong: there are larger ones
        (encode(RAMP, "TIFF"), DARK, True),
        (b"P5 16 4 4095\n" + RAMP.astype(">u2").tobytes(), FULL_RANGE, False),
    ],
)
def test_12_bits_in_16_are_read_as_the_file_says_or_remarked(data: bytes, expected: np.ndarray, dark: bool) -> None:
    pixels, remarks = decoded(data)
    assert np.abs(pixels - expected[..., None]).max() <= 1
    assert any("little of their range is used" in remark for remark in remarks) == dark


@pytest.mark.parametrize("profile", [None, DISPLAY_P3])
def test_12_bits_in_16_bit_colours_are_read_as_the_file_says(profile: bytes | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    colours = np.dstack([RAMP, RAMP[::-1], RAMP // 2])
    plain = np.dstack([FULL_RANGE, FULL_RANGE[::-1], np.rint((RAMP // 2) * (255 / 4095))])
    expected = plain if profile is None else by_hand(plain.astype(np.uint8), P3_PRIMARIES, srgb_curve)
    chunks = [(b"sBIT", bytes([12] * 3))]
    if profile:
        chunks.append((b"iCCP", b"P3\0\0" + zlib.compress(profile)))
    files = [png_of(colours, 16, 2, *chunks)]
    for order in "<>":
        for compression, planar in product((None, "zlib"), ("contig", "separate")):
            stream = io.BytesIO()
            tags = [(281, 3, 3, (4095,) * 3, True), *([(34675, 7, len(profile), profile, True)] if profile else [])]
            options = {"byteorder": order, "compression": compression, "extratags": tags, "planarconfig": planar}
            data = np.moveaxis(colours, -1, 0) if planar == "separate" else colours
            tifffile.imwrite(stream, data, photometric="rgb", metadata=None, **options)
            files.append(stream.getvalue())
    n_remarked = 0
    for data in files:
        pixels, remarks = decoded(data)
        assert remarks or np.abs(pixels - expected).max() <= (1 if profile is None else 2)
        n_remarked += bool(remarks)
    assert n_remarked == 4  # planes of their own
    if profile is None:  # otherwise the conversion magnifies that Pillow cuts the lower 8 bits off
        shifted, _ = decoded(png_of(colours << 4 | colours >> 8, 16, 2, *chunks))
        assert np.abs(shifted - expected).max() <= 1


def test_dark_colours_of_16_bits_are_remarked() -> None:
    colours = np.dstack([RAMP, RAMP[::-1], RAMP])
    pixels, remarks = decoded(png_of(colours, 16, 2))
    assert pixels.max() == 15
    assert remarks[0] == "values up to 4095 of 65535 were taken as they are: little of their range is used"
    assert decoded(png_of(colours * 16, 16, 2))[1] == []


def test_a_picture_of_one_colour_is_remarked() -> None:
    grey = np.full((200, 300, 3), 77, np.uint8)
    marked = grey.copy()
    marked[100:104, 150:250] = 255
    dusty = grey.copy()
    dusty[100, 150] = 80
    for pixels, expected in ((grey, True), (dusty, True), (marked, False), (picture(), False)):
        _, remarks = decoded(encode(pixels, "PNG"))
        assert remarks == ["all of it is one colour, or nearly"] * expected
        in_memory: list[str] = []
        to_pixels(pixels, remarks=in_memory)
        assert in_memory == remarks


def test_ordinary_transparency_stays_over_white() -> None:
    cut = with_alpha(np.where(np.arange(48) < 24, 255, 0)[None])
    pixels, remarks = decoded(encode(cut, "PNG"))
    white = (255, 255, 255)
    assert Expectation("ok", (COLOURS[0], white, COLOURS[2], white)).describes(pixels.transpose(2, 0, 1))
    assert not remarks
