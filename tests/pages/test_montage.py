"""The montage: a real browser shows its pictures beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_parts import open_page

from cnncodes import similar
from cnncodes.pages.montage import montage


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pictures_of_a_montage_do_not_cover_each_other(
    sample_codes: Path, small_sample: Path, tmp_path: Path, browser: Any, width: int
) -> None:
    query = sorted((small_sample / "test" / "Bag").iterdir())[0]
    path = tmp_path / "similar.html"
    path.write_text(montage(query, similar(query, sample_codes), small_sample), encoding="utf-8")
    page, complaints, _ = open_page(browser, path, viewport={"width": width, "height": 900})
    boxes = [thumb.bounding_box() for thumb in page.locator(".gallery .thumb").all()]
    assert len(boxes) == 9
    for i, one in enumerate(boxes):
        assert 140 < one["width"] <= 176
        assert one["x"] + one["width"] <= width
        for other in boxes[:i]:
            apart = (abs(one[at] - other[at]) >= one[side] for at, side in (("x", "width"), ("y", "height")))
            assert any(apart), (one, other)
    assert complaints == []
