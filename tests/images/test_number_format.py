"""Every depth, photometric interpretation and layout of pixels, against values that are known, and independent readers.

A file is read right, or refused with a reason; what is stretched is remarked. The sweep of TIFF is written by tifffile
and read back by it before it is read here.
"""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from bad_images import encode, png
from PIL import Image

from cnncodes.errors import DecodeError
from cnncodes.images.decoding import decode, to_pixels

HEIGHT, WIDTH = 48, 80
RNG = np.random.default_rng(0)
COMPRESSIONS = (None, "packbits", "lzw", "adobe_deflate", "zstd", "lzma")
WITH_PREDICTOR = ("lzw", "adobe_deflate", "zstd", "lzma")
TOLERANCE = 2  # grey levels


def shades(channels: int) -> np.ndarray:
    """Smooth values from 0.03 to 0.93, (H, W) or (H, W, channels), no channel like another."""
    ramp = np.add.outer(np.arange(HEIGHT) / HEIGHT, np.arange(WIDTH) / WIDTH) / 2
    planes = [0.9 * np.roll(ramp, 7 * i, axis=1) + 0.03 for i in range(channels)]
    return np.stack(planes, axis=-1) if channels > 1 else planes[0]


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    return values.astype(kind) if kind.kind == "f" else np.rint(values * float(np.iinfo(kind).max)).astype(kind)


def seen(values: np.ndarray, photometric: str, stretched: bool) -> np.ndarray:
    """What must be seen, as float (H, W, 3)."""
    if stretched:
        values = (values - values.min()) / (values.max() - values.min())
    if photometric == "miniswhite":
        values = 1 - values
    if photometric == "separated":
        values = (1 - values[..., :3]) * (1 - values[..., 3:])
    values = values if values.ndim == 3 and values.shape[2] >= 3 else np.atleast_3d(values)[..., :1].repeat(3, axis=2)
    return 255 * values[..., :3]


def tiff_files() -> Iterator[tuple[str, bytes, np.ndarray, bool, bool]]:
    """Yield name, bytes, what must be seen, whether it must be remarked as stretched, and whether it is lossy."""
    tifffile = pytest.importorskip("tifffile")
    kinds = (
        *(("minisblack", 1, None, dtype) for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")),
        *(("miniswhite", 1, None, dtype) for dtype in ("u1", "u2", "u4", "f4")),
        *(("rgb", 3, None, dtype) for dtype in ("u1", "u2", "u4", "f4")),
        *(("rgb", 4, extra, dtype) for extra in ("unspecified", "unassalpha", "assocalpha") for dtype in ("u1", "u2")),
        *(("minisblack", 2, "unassalpha", dtype) for dtype in ("u1", "u2")),
        *(("separated", 4, None, dtype) for dtype in ("u1", "u2", "u4")),
    )
    for photometric, channels, extra, dtype in kinds:
        values = shades(channels)
        if extra:
            values[..., -1] = 1
        array = stored(values, dtype)
        stretched = dtype in ("i1", "u4", "i4")
        expected = seen(values, photometric, stretched)
        planars = ("contig", "separate") if channels > 1 else (None,)
        compressions = (*COMPRESSIONS, "jpeg") if dtype == "u1" else COMPRESSIONS
        for order, planar, compression, tile in product("<>", planars, compressions, (None, (32, 16))):
            for predictor in (False, True) if compression in WITH_PREDICTOR else (False,):
                options: dict[str, Any] = {"extrasamples": [extra]} if extra else {}
                options |= {"rowsperstrip": 13} if tile is None else {"tile": tile}
                data = np.moveaxis(array, -1, 0) if planar == "separate" else array
                stream = io.BytesIO()
                options |= {"photometric": photometric, "planarconfig": planar, "compression": compression}
                try:
                    tifffile.imwrite(stream, data, byteorder=order, predictor=predictor, metadata=None, **options)
                    back = tifffile.imread(io.BytesIO(stream.getvalue())).squeeze()
                except (ValueError, TypeError, KeyError, NotImplementedError):  # no such file can be made
                    continue
                assert compression == "jpeg" or np.array_equal(back, data)
                name = f"{photometric}/{channels}/{extra}/{dtype} {order} {planar} {compression} {predictor} {tile}"
                yield name, stream.getvalue(), expected, stretched, compression == "jpeg"


@pytest.mark.slow
def test_every_tiff_is_read_right_or_refused() -> None:
    pytest.importorskip("imagecodecs")
    wrong, outcomes = [], Counter[str]()
    for name, data, expected, stretched, lossy in tiff_files():
        remarks: list[str] = []
        try:
            pixels = decode(data, remarks=remarks)
        except DecodeError:
            outcomes[f"refused {name.split()[0]}"] += 1
            continue
        difference = np.abs(pixels.transpose(1, 2, 0) - expected)
        outcomes[f"read {name.split()[0]}"] += 1
        if (difference.mean() if lossy else difference.max()) > TOLERANCE or bool(remarks) != stretched:
            wrong.append((name, difference.max(), remarks))
    assert not wrong
    read = {kind.split()[1] for kind in outcomes if kind.startswith("read")}
    kinds = ("minisblack/1/None", "miniswhite/1/None", "rgb/3/None", "rgb/4/unassalpha", "separated/4/None")
    assert read >= {f"{kind}/{dtype}" for kind in kinds for dtype in ("u1", "u2")}
    assert read >= {f"minisblack/1/None/{dtype}" for dtype in ("i1", "i2", "u4", "i4", "f4")}
    assert outcomes.total() > 1400


TIFF_CASES = {
    "16-bit planes": ("rgb", 3, "u2", {"planarconfig": "separate"}, False),
    "16-bit planes in tiles": ("rgb", 3, "u2", {"planarconfig": "separate", "tile": (16, 16), "byteorder": ">"}, False),
    "16-bit grey, zero is white": ("miniswhite", 1, "u2", {"byteorder": "<"}, False),
    "floating-point grey, zero is white": ("miniswhite", 1, "f4", {"compression": "zlib"}, False),
    "floating-point grey, big-endian, packed": (
        "minisblack",
        1,
        "f4",
        {"compression": "zlib", "byteorder": ">"},
        False,
    ),
    "16-bit grey with sign": ("minisblack", 1, "i2", {"compression": "zlib", "byteorder": ">"}, False),
    "8-bit grey with sign": ("minisblack", 1, "i1", {}, True),
    "32-bit grey": ("minisblack", 1, "u4", {"byteorder": "<"}, True),
}


@pytest.mark.parametrize("case", TIFF_CASES)
def test_tiff_of_an_uncommon_layout_is_read_right(case: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    photometric, channels, dtype, options, stretched = TIFF_CASES[case]
    values = shades(channels)
    array, stream, remarks = stored(values, dtype), io.BytesIO(), list[str]()
    data = np.moveaxis(array, -1, 0) if "planarconfig" in options else array
    tifffile.imwrite(stream, data, photometric=photometric, metadata=None, **options)
    pixels = decode(stream.getvalue(), remarks=remarks).transpose(1, 2, 0)
    assert np.abs(pixels - seen(values, photometric, stretched)).max() <= 2
    assert bool(remarks) == stretched
    with Image.open(io.BytesIO(stream.getvalue())) as image:
        assert np.array_equal(to_pixels(image).transpose(1, 2, 0), pixels)


@pytest.mark.parametrize("order", "<>")
def test_tiff_of_few_bits_is_read_right(order: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    for bits, photometric in product((1, 2, 4, 12), ("minisblack", "miniswhite")):
        values = RNG.integers(0, 2**bits, (HEIGHT, WIDTH)).astype(np.uint8 if bits <= 8 else np.uint16)
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, photometric=photometric, bitspersample=bits, byteorder=order, metadata=None)
        try:
            pixels = decode(stream.getvalue())
        except DecodeError:
            assert bits == 12
            continue
        assert np.abs(pixels[0] - seen(values / (2**bits - 1), photometric, False)[..., 0]).max() <= 0.6


@pytest.mark.parametrize("scale", [257, 1])
def test_tiff_palettes_of_8_bits_are_taken_for_what_they_are(scale: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    indices = RNG.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
    stream = io.BytesIO()
    tifffile.imwrite(stream, indices, photometric="palette", colormap=colours * scale, metadata=None)
    assert np.array_equal(decode(stream.getvalue()), colours[:, indices])


def test_a_plane_of_transparency_is_refused_rather_than_misread() -> None:
    tifffile = pytest.importorskip("tifffile")
    planes, stream = np.stack([stored(shades(1), "u1"), np.full((HEIGHT, WIDTH), 255, np.uint8)]), io.BytesIO()
    options = {"planarconfig": "separate", "extrasamples": ["unassalpha"], "compression": "zlib"}
    tifffile.imwrite(stream, planes, photometric="minisblack", metadata=None, **options)
    with pytest.raises(DecodeError, match="interleaved"):
        decode(stream.getvalue())


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (3, 1), (4, 2), (6, 4)])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_png_of_every_depth_is_read_right(depth: int, colour_type: int, channels: int) -> None:
    if (depth < 8 and channels > 1) or (depth == 16 and colour_type == 3):
        return  # PNG has no such files
    top = 2**depth - 1
    values = np.rint(shades(channels) * top).astype(np.uint16)
    if channels in (2, 4):
        values[..., -1] = top
    palette = RNG.integers(0, 256, (2 ** min(depth, 8), 3), dtype=np.uint8)
    if depth == 16:
        rows = values.reshape(HEIGHT, -1).astype(">u2").view(np.uint8)
    else:
        bits = np.unpackbits(values.reshape(HEIGHT, -1, 1).astype(np.uint8), axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(HEIGHT, -1), axis=1)
    chunks = [(b"PLTE", palette.tobytes())] if colour_type == 3 else []
    data = png(WIDTH, HEIGHT, depth, colour_type, b"".join(b"\0" + row.tobytes() for row in rows), *chunks)
    expected = palette[values] if colour_type == 3 else seen(values / top, "rgb", False)
    assert np.abs(decode(data).transpose(1, 2, 0) - expected).max() <= 1
    imagecodecs = pytest.importorskip("imagecodecs")
    if depth >= 8 and colour_type != 3:
        assert np.array_equal(imagecodecs.png_decode(data).squeeze(), values)


def bmp(depth: int, rows: np.ndarray, extra: bytes, compression: int, offset: int) -> bytes:
    """A BMP from the bottom up; `rows` are padded bytes (H, n)."""
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, depth, compression, rows.size, 0, 0, 0, 0)
    return b"BM" + struct.pack("<I4xI", offset + rows.size, offset) + head + extra + rows[::-1].tobytes()


@pytest.mark.parametrize("depth", [1, 4, 8, 16, 24, 32])
def test_bmp_of_every_depth_is_read_right(depth: int) -> None:
    extra = b""
    if depth <= 8:
        indices = np.rint(shades(1) * (2**depth - 1)).astype(np.uint8)
        palette = RNG.integers(0, 256, (2**depth, 4), dtype=np.uint8)
        bits = np.unpackbits(indices[..., None], axis=2)[..., 8 - depth :]
        rows, extra = np.packbits(bits.reshape(HEIGHT, -1), axis=1), palette.tobytes()
        expected: np.ndarray = palette[indices][..., [2, 1, 0]]
    elif depth == 16:  # five bits each
        five = np.rint(shades(3) * 31).astype(np.uint16)
        rows = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2").view(np.uint8)
        expected = five * (255 / 31)
    else:
        expected = stored(shades(3), "u1")
        unused = np.zeros((HEIGHT, WIDTH, depth // 8 - 3), np.uint8)
        rows = np.concatenate([expected[..., ::-1], unused], axis=2).reshape(HEIGHT, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    data = bmp(depth, rows, extra, 0, 54 + len(extra))
    assert np.abs(decode(data).transpose(1, 2, 0) - expected).max() <= 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("kind", "depth"), [(1, 8), (2, 16), (2, 24), (2, 32), (3, 8), (3, 16)])
def test_tga_of_every_depth_is_read_right(kind: int, depth: int, packed: bool) -> None:
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    grey = stored(shades(1), "u1")
    if kind == 1:
        values, expected = grey, palette[grey][..., ::-1]
    elif kind == 3:
        values, expected = (grey, grey) if depth == 8 else (np.dstack([grey, np.full_like(grey, 255)]), grey)
    elif depth == 16:
        five = np.rint(shades(3) * 31).astype(np.uint16)
        values = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2").view(np.uint8)
        expected = five * (255 / 31)
    else:
        expected = stored(shades(3), "u1")
        values = expected[..., ::-1]
        values = values if depth == 24 else np.dstack([values, np.full_like(grey, 255)])
    palette_fields = (1, 0, 256, 24) if kind == 1 else (0, 0, 0, 0)
    has_palette, first, count, entry = palette_fields
    header = struct.pack(
        "<BBBHHBHHHHBB", 0, has_palette, kind + 8 * packed, first, count, entry, 0, 0, WIDTH, HEIGHT, depth, 0x20
    )
    pixels = np.ascontiguousarray(values).reshape(HEIGHT * WIDTH, depth // 8)
    body = b"".join(b"\0" + pixel.tobytes() for pixel in pixels) if packed else pixels.tobytes()
    data = header + (palette.tobytes() if kind == 1 else b"") + body
    seen_here = decode(data).transpose(1, 2, 0)
    assert np.abs(seen_here - (expected if expected.ndim == 3 else expected[..., None])).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("codec", ["jp2", "j2k"])
def test_jpeg_2000_of_every_depth_is_read_right(bits: int, channels: int, codec: str) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.rint(shades(channels) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    data = imagecodecs.jpeg2k_encode(values, level=0, reversible=True, bitspersample=bits, codecformat=codec)
    assert np.array_equal(imagecodecs.jpeg2k_decode(data), values)
    pixels = decode(data).transpose(1, 2, 0)
    assert np.abs(pixels - seen(values / (2**bits - 1), "rgb", False)).max() <= TOLERANCE


def test_lab_is_read_as_colours() -> None:
    tifffile = pytest.importorskip("tifffile")
    lab = np.zeros((16, 24, 3), np.uint8)
    lab[:, :12] = (128, 0, 0)  # L 50
    lab[:, 12:] = (137, 80, 67)  # L 53.7, a 80, b 67: red
    stream = io.BytesIO()
    tifffile.imwrite(stream, lab, photometric="cielab", metadata=None)
    pixels = decode(stream.getvalue()).transpose(1, 2, 0)
    assert np.abs(pixels[4, 4].astype(int) - 119).max() <= 2
    assert np.abs(pixels[4, 20].astype(int) - (255, 0, 0)).max() <= 12


def test_grey_that_pillow_writes_is_read_as_before() -> None:
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    assert np.array_equal(decode(encode(values, "TIFF"))[0], np.arange(256).reshape(16, 16))
