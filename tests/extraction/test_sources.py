"""An image has the digest of its file, or of its pixels; the memory of a large file is claimed before it is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes.errors import DecodeError
from cnncodes.extraction.sources import read_source
from cnncodes.images.image_set import ImageSet
from cnncodes.system import claims
from cnncodes.system.claims import Claim

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)


def test_a_file_has_the_digest_of_its_bytes_and_an_array_that_of_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    images = ImageSet(["a", "b", "c"], [path, PIXELS, Image.fromarray(PIXELS)])
    source, digest = read_source(images, 0)
    assert source == path.read_bytes()
    assert digest.tobytes() == hashlib.sha256(path.read_bytes()).digest()
    pixels, of_pixels = read_source(images, 1)
    np.testing.assert_array_equal(np.asarray(pixels).transpose(1, 2, 0), PIXELS)
    np.testing.assert_array_equal(of_pixels, read_source(images, 2)[1])


def test_a_file_for_which_there_is_no_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "available_memory", lambda: 10**9)
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.0)
    with (tmp_path / "a.tif").open("wb") as file:
        file.truncate(2 * 10**9)  # takes no place on the disk
    with Claim() as claim, pytest.raises(DecodeError, match=r"to read the file .it takes 2\.00 GB, and 0\.93 GB are"):
        read_source(ImageSet(["a"], [tmp_path / "a.tif"]), 0, claim=claim)
