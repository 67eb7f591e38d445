"""Small pictures are packed in grey and colour, and become pictures again."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cnncodes.codes.thumbnails import pack, to_rgb

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
SIZES = np.array([[64, 64], [640, 480], [3, 65535]])


def test_grey_and_colour_are_those_of_jpeg() -> None:
    records = pack(PICTURES, SIZES)
    for picture, record in zip(PICTURES, records, strict=True):
        expected = Image.fromarray(picture).convert("YCbCr")
        assert np.abs(record["grey"].astype(int) - np.asarray(expected)[..., 0]).max() <= 1
        cells = np.asarray(expected, float)[..., 1:].reshape(16, 4, 16, 4, 2).mean(axis=(1, 3))
        assert np.abs(record["colour"].transpose(1, 2, 0) - cells).max() <= 1.5


def test_pictures_in_colour_come_back_but_for_what_small_colours_lose() -> None:
    smooth = np.asarray(Image.fromarray(PICTURES[0, :3, :3]).resize((64, 64), Image.Resampling.BICUBIC))
    again = to_rgb(pack(smooth[None], SIZES[:1]))[0]
    assert np.abs(again.astype(int) - smooth).mean() < 6
    grey = np.repeat(PICTURES[..., :1], 3, axis=-1)
    assert np.abs(to_rgb(pack(grey, SIZES)).astype(int) - grey).max() <= 1
