"""PNG files whose texts or colour profiles are too large for Pillow are read, and their colours are right."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from icc_profiles import ADOBE_RGB
from PIL import Image

from cnncodes.images.decoding import decode
from cnncodes.images.png_chunks import without_large_chunks

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def png(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG", **options)  # type: ignore[arg-type]
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(kind: bytes, content: bytes, *, at_the_end: bool = False) -> bytes:
    data = png()
    at = data.index(b"IEND") - 4 if at_the_end else 33
    return data[:at] + chunk(kind, content) + data[at:]


@pytest.mark.parametrize("padding", [2 << 20, 5 << 20])
def test_a_large_profile_counts_like_a_small_one(padding: int) -> None:
    noise = np.random.default_rng(1).bytes(padding)
    profile = struct.pack(">I", len(ADOBE_RGB) + padding) + ADOBE_RGB[4:] + noise
    data = with_chunk(b"iCCP", b"large\0\0" + zlib.compress(profile))
    rest, found = without_large_chunks(data)
    assert rest == png()
    assert found == profile
    remarks: list[str] = []
    pixels = decode(data, remarks=remarks)
    np.testing.assert_array_equal(pixels, decode(png(icc_profile=ADOBE_RGB)))
    assert not np.array_equal(pixels, decode(data, ignore_profiles=True))
    assert remarks == []


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize(
    ("kind", "start"), [(b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0en\0Comment\0")], ids=["zTXt", "iTXt"]
)
def test_a_long_text_does_not_matter(kind: bytes, start: bytes, at_the_end: bool) -> None:
    data = with_chunk(kind, start + zlib.compress(bytes(3 << 20)), at_the_end=at_the_end)
    np.testing.assert_array_equal(decode(data), decode(png()))


def test_all_else_stays_as_it_is() -> None:
    for data in (
        png(icc_profile=ADOBE_RGB),
        with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x/>" * 1000),
        with_chunk(b"iCCP", b"damaged\0\0" + bytes(5000)),
        png()[:50],
        b"",
    ):
        assert without_large_chunks(data) == (data, None)
