"""The pictures that a codes file keeps are shown in the shape of the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes import extract
from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError
from cnncodes.pages.stored_images import stored_images


def test_pictures_have_the_shape_and_the_content_of_the_images(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("wide", (90, 30)), ("tall", (40, 80))):
        corners = Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, (2, 2, 3), np.uint8))
        corners.resize(size, Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no image")
    extract(folder, tmp_path / "codes.h5", layers=["layer1"], image_size=64)
    with CodesFile.open(tmp_path / "codes.h5") as file:
        images = stored_images(file, ["wide.png", "broken.png", "tall.png"], 60)
    assert images.ids == ["wide.png", "tall.png"]
    for name, picture in zip(images.ids, images.sources, strict=True):
        height, width = picture.shape[:2]
        assert (width, height) == {"wide.png": (60, 20), "tall.png": (30, 60)}[name]
        expected = np.asarray(Image.open(folder / name).resize((width, height)), float)
        assert np.abs(picture - expected).mean() < 6


def test_a_file_without_pictures_is_refused(tmp_path: Path, small_sample: Path) -> None:
    extract(small_sample, tmp_path / "codes.h5", layers=["layer1"], image_size=64, thumbnails=False)
    with CodesFile.open(tmp_path / "codes.h5") as file, pytest.raises(ImagesError, match="keeps no small pictures"):
        stored_images(file, file.ids.tolist(), 64)
