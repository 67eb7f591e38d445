"""Many small pictures on one sheet: each whole, in its place, and those that cannot be had are named."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes.errors import ImagesError
from cnncodes.images.image_set import ImageSet
from cnncodes.images.sheet import draw_sheet


def test_each_picture_is_whole_and_in_its_place(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (200, 0, 0)).save(tmp_path / "wide.png")
    tall = np.zeros((30, 10, 3), np.uint8)
    tall[:] = (0, 0, 200)
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = ImageSet(["wide", "tall", "broken"], [tmp_path / "wide.png", tall, tmp_path / "broken.png"])
    calls: list[tuple[int, int, int]] = []
    sheet = draw_sheet(images, ["tall", "wide", "tall", "broken", "none"], 16, lambda *numbers: calls.append(numbers))
    assert (sheet.columns, sheet.lines, sheet.places) == (2, 1, {"tall": 0, "wide": 1})
    assert sorted(sheet.missing) == ["broken", "none"]
    assert calls[-1] == (3, 3, 2)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.data.partition(",")[2]))).convert("RGBA"))
    assert picture.shape == (16, 32, 4)
    assert picture[8, 8, 2] > 150 > 100 > picture[8, 8, 0]
    assert picture[8, 24, 0] > 150 > 100 > picture[8, 24, 2]
    assert picture[8, 1, 3] == picture[1, 24, 3] == 0  # clear beside the tall one, and above the wide one


def test_a_sheet_of_nothing_is_empty_and_one_of_other_images_is_refused() -> None:
    images = ImageSet(["one"], [np.zeros((4, 4, 3), np.uint8)])
    assert draw_sheet(images, [], 16).data == ""
    with pytest.raises(ImagesError, match="give the folder that it was made from"):
        draw_sheet(images, ["other"], 16)
