"""Sheets of small pictures: each is where its place says."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from cnncodes import ImageSet
from cnncodes.images.sheet import draw_sheet


def test_small_pictures_are_where_the_sheet_says() -> None:
    colours = {"red": (250, 10, 10), "green": (10, 200, 10), "blue": (20, 20, 240)}
    arrays = [np.full((30, 60, 3), colour, np.uint8) for colour in colours.values()]
    images = ImageSet(list(colours), arrays)
    sheet = draw_sheet(images, ["blue", "gone", "red", "green", "blue"], 32)
    assert sheet.missing == ["gone"]
    assert (sheet.columns, sheet.lines, len(sheet.places)) == (2, 2, 3)
    data = base64.b64decode(sheet.data.partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert pixels.shape == (64, 64, 4)
    for name, place in sheet.places.items():
        cell = pixels[place // 2 * 32 :, place % 2 * 32 :][:32, :32]
        np.testing.assert_allclose(cell[12:20, 4:28, :3].mean(axis=(0, 1)), colours[name], atol=12)
        assert cell[1, :, 3].max() == 0  # twice as wide as high: clear above
