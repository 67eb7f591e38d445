"""What libtiff itself would print does not reach the terminal."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bad_images import encode

from cnncodes.errors import DecodeError
from cnncodes.images import libtiff
from cnncodes.images.decoding import decode
from cnncodes.images.libtiff import quiet_libtiff


def damaged() -> list[bytes]:
    """TIFF files of which libtiff has something to say."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    files = []
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        data = bytearray(encode(noise, "TIFF", compression=compression))
        middle = len(data) // 2
        data[middle : middle + 256] = bytes(256)
        files.append(bytes(data))
    return files


def test_a_damaged_file_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    refused = 0
    for data in damaged():
        try:
            decode(data)
        except DecodeError:
            refused += 1
    assert refused
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name != "posix", reason="where libtiff is part of Pillow's own library, it is not found")
def test_handlers_are_put_back_when_the_last_user_has_left() -> None:
    setters = libtiff._setters()
    assert len(setters) == 2

    def current() -> list[int | None]:
        handlers = [setter(None) for setter in setters]
        for setter, handler in zip(setters, handlers, strict=True):
            setter(handler)
        return handlers

    before = current()
    assert any(before)  # Pillow itself turns warnings off
    with quiet_libtiff():
        with quiet_libtiff():
            assert current() == [None, None]
        assert current() == [None, None]
    assert current() == before
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_ignored, damaged() * 5))
    assert current() == before


def _ignored(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(data)
