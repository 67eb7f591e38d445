"""What a set of images knows of them, and parts of it."""

from __future__ import annotations

import os

import pytest
from image_files import fill

from cnncodes.errors import DecodeError
from cnncodes.images.loading import ImageSet, load_images


def test_file_that_vanishes_after_the_scan(tmp_path):
    images = load_images(fill(tmp_path, "a/1.png", "a/2.png"))
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(DecodeError, match="no such file"):
        images.read_bytes(0)
    (tmp_path / "a" / "2.png").unlink()
    os.mkfifo(tmp_path / "a" / "2.png")
    with pytest.raises(DecodeError, match="pipe"):
        images.read_bytes(1)


def test_empty_set_of_another_maker():
    images = ImageSet(ids=["a"], sources=[None])
    assert (len(images), images.classes, images.failures) == (1, [], {})
