"""A notebook shows the table of a codes file, and pictures of its images where it is given them."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digit_codes import write_codes
from PIL import Image

from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError
from cnncodes.images.image_set import ImageSet
from cnncodes.images.loading import load_images
from cnncodes.pages.codes_page import codes_page

ROWS = np.arange(12)
LABELS = ["b", "a"] * 6
SIDE = 64


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    """Row 5 has failed; rows 10 and 11 are pending."""
    return write_codes(tmp_path / "codes.h5", ROWS, LABELS, done=9, failed=(5,))


@pytest.fixture
def images() -> ImageSet:
    """Image i is grey, of value 20 i."""
    grey = [Image.new("RGB", (8, 8), (20 * i,) * 3) for i in range(len(ROWS))]
    return replace(load_images(grey), ids=[f"{row:04}.png" for row in ROWS])


def test_the_pictures_of_a_class_stand_together(codes: Path, images: ImageSet) -> None:
    page = codes_page(codes, images)
    assert page._repr_html_() == page.html
    data, alt = re.search(r'<img src="data:image/webp;base64,(.+)" alt="(.+)">$', page.html).groups()
    assert alt == "9 of the images, in the order of their classes"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    first_row = [sheet[SIDE // 2, SIDE * i + SIDE // 2, 0] for i in range(3)]
    np.testing.assert_allclose(first_row, [20 * 1, 20 * 3, 20 * 7], atol=3)  # of class a, without row 5


def test_without_images_the_pictures_of_the_file_are_shown(sample_codes: Path, small_sample: Path, codes: Path) -> None:
    pages = codes_page(sample_codes), codes_page(sample_codes, small_sample)
    sheets = []
    for page in pages:
        data = re.search(r'<img src="data:image/webp;base64,(.+)" alt="36 of the images', page.html).group(1)
        sheets.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), float))
    assert np.corrcoef(sheets[0].ravel(), sheets[1].ravel())[0, 1] > 0.97
    with pytest.raises(ImagesError, match="keeps no small pictures"):
        codes_page(codes)


def test_an_open_file_is_taken_and_stays_open(codes: Path, images: ImageSet) -> None:
    with CodesFile.open(codes) as file:
        page = codes_page(file, images)
        assert page.html.startswith(file._repr_html_())
    assert page == codes_page(codes, images)


def test_images_of_another_file_are_refused(codes: Path, images: ImageSet) -> None:
    with pytest.raises(ImagesError, match="none of the names of the codes file"):
        codes_page(codes, replace(images, ids=[f"other {row}" for row in ROWS]))


def test_without_codes_there_is_no_picture(tmp_path: Path, images: ImageSet) -> None:
    empty = write_codes(tmp_path / "codes.h5", ROWS, LABELS, done=0)
    page = codes_page(empty, images)
    assert "12: 12 pending" in page.html
    assert "<img" not in page.html
