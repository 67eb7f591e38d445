"""Which format a file has, by its bytes."""

from __future__ import annotations

import importlib.util
import io
import struct

import numpy as np
import pytest
from bad_images import COLOURS, Expectation, encode, picture, same_picture
from PIL import Image

from cnncodes.errors import DecodeError
from cnncodes.images import formats
from cnncodes.images.decoding import decode
from cnncodes.images.formats import format_of, reads_heic

HEIC = importlib.util.find_spec("pillow_heif") is not None
SEEN = Expectation("ok", COLOURS, tolerance=6)


def branded(data: bytes, major: bytes, *compatible: bytes) -> bytes:
    """The file with other brands; the first box grows or shrinks, and offsets into the file with it."""
    size = int.from_bytes(data[:4], "big")
    brands = b"".join(compatible)
    assert 16 + len(brands) == size  # otherwise the offsets would be wrong
    return struct.pack(">I4s4s4x", size, b"ftyp", major) + brands + data[size:]


@pytest.fixture
def avif() -> bytes:
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow does not write AVIF")
    return same_picture()["best.avif"][0]


def test_avif_is_known_by_any_of_its_brands(avif: bytes) -> None:
    others = [avif[at : at + 4] for at in range(16, int.from_bytes(avif[:4], "big"), 4)]
    assert b"avif" in others
    for major in (b"mif1", b"miaf", b"avif"):
        data = branded(avif, major, *others)
        assert format_of(data)[0] == "AVIF"
        assert SEEN.describes(decode(data))


@pytest.mark.parametrize("brands", [(b"heic", b"mif1"), (b"mif1", b"heic"), (b"msf1", b"hevc"), (b"mif1", b"mif1")])
def test_heic_says_how_to_have_it_read(brands: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "HEIC_LIBRARY", "no_such_library")
    assert not reads_heic()
    data = struct.pack(">I4s4s4x4s", 20, b"ftyp", *brands) + bytes(40)
    with pytest.raises(
        DecodeError, match=r"HEIC photographs are not read here: pip install 'cnncodes\[heic\]' to have"
    ):
        decode(data)


def test_other_files_of_the_family_are_no_images() -> None:
    with pytest.raises(DecodeError, match="not an image in a format that is read here"):
        format_of(struct.pack(">I4s4s4x4s", 20, b"ftyp", b"isom", b"mp42") + bytes(range(128, 168)))


@pytest.mark.skipif(not HEIC, reason="needs pillow-heif")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_heic_is_decoded_turned_and_limited() -> None:
    import pillow_heif

    photo = np.asarray(Image.fromarray(picture()).resize((96, 64), Image.Resampling.NEAREST))
    for turn, shape in ((1, (3, 64, 96)), (6, (3, 96, 64))):
        stream = io.BytesIO()
        tags = Image.Exif()
        tags[0x0112] = turn
        image = pillow_heif.from_pillow(Image.fromarray(photo))
        image.save(stream, quality=90, chroma=444, exif=tags.tobytes())
        data = stream.getvalue()
        assert reads_heic()
        assert format_of(data)[0] == "HEIC"
        pixels = decode(data)
        assert pixels.shape == shape
        upright = np.rot90(photo, -1) if turn == 6 else photo
        assert np.abs(pixels.transpose(1, 2, 0)[8:24, 8:24].astype(int) - upright[8:24, 8:24]).max() <= 6
        with pytest.raises(DecodeError, match="more than the limit"):
            decode(data, max_pixels=6000)
        with pytest.raises(DecodeError):
            decode(data[: len(data) // 2])


@pytest.mark.parametrize("compression", [None, "tga_rle"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_tga_without_a_footer_is_read(mode: str, compression: str | None) -> None:
    image = Image.fromarray(picture())
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    data = encode(image, "TGA", compression=compression)
    without = data.removesuffix(data[-26:])
    assert data.endswith(b"TRUEVISION-XFILE.\0")
    assert np.array_equal(decode(without), decode(data))
    with pytest.raises(DecodeError, match="truncated"):
        decode(without[: len(without) // 2])


def test_what_only_looks_like_tga_is_none() -> None:
    icon = b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0" + bytes(100)
    cursor = b"\0\0\2\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0" + bytes(100)
    for data in (icon, cursor, b"\0\0\2" + bytes(15), b"\0\0\2" + bytes(9) + b"\1\0\0\0\x18\0" + bytes(9)):
        with pytest.raises(DecodeError, match="not an image"):
            decode(data)
    rng = np.random.default_rng(0)
    named = [data for data in rng.bytes(200_000 * 20).split() if len(data) > 18 and formats._has_tga_header(data)]
    assert not named
