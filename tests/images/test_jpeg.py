"""The fast decoder gives Pillow's pixels, and what it has against a file is said or refuses it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cnncodes.errors import DecodeError
from cnncodes.images.jpeg import judge_damage, plain_jpeg

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def jpeg(pixels: np.ndarray = PIXELS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def test_pixels_are_those_of_pillow_and_damage_is_told() -> None:
    image = Image.open(io.BytesIO(jpeg()))
    pixels, damage = plain_jpeg(jpeg(), image)
    np.testing.assert_array_equal(pixels, np.asarray(image))
    assert damage == ""
    assert "premature end" in plain_jpeg(jpeg()[:900] + b"\xff\xd9", image)[1]


@pytest.mark.parametrize(("grey_lines", "refused"), [(slice(20, None), True), (slice(0, 40), False)])
def test_only_what_is_grey_to_the_end_is_missing(grey_lines: slice, refused: bool) -> None:
    pixels, remarks = PIXELS.copy(), list[str]()
    pixels[grey_lines] = 128
    if refused:
        with pytest.raises(DecodeError, match=r"58% of the picture is missing .noted."):
            judge_damage(Image.fromarray(pixels), "noted", remarks)
    else:
        judge_damage(Image.fromarray(pixels), "noted", remarks)
        assert remarks == ["the decoder notes: noted; parts of the picture may be wrong"]
