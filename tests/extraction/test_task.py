"""What an extraction computes, and what it says of the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cnncodes import extract


def test_what_is_odd_is_noted_once_with_how_many_images_it_is_true_of(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40), (i, 90, 30)).save(tmp_path / "images" / f"blank{i}.png")
        Image.fromarray(noise).save(tmp_path / "images" / f"good{i}.png")
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "images" / "frames.gif", save_all=True, append_images=frames[1:])
    done = extract(tmp_path / "images", tmp_path / "codes.h5", layers="penultimate", image_size=64)
    assert done.ok == 7
    assert "blank0.png and 3 more: all of it is one colour, or nearly" in done.notes
    assert "frames.gif: the first of several frames was taken" in done.notes


def test_failed_images_are_tried_again_on_request(photos: Path, tmp_path: Path) -> None:
    """With a larger limit of pixels; the file is then that of a run that had it from the beginning."""
    out, whole = tmp_path / "codes.h5", tmp_path / "whole.h5"
    first = extract(photos, out, layers=["layer1", "layer2"], max_pixels=200_000)
    assert (first.ok, first.failed) == (4, 2)
    assert all("more than the limit of 200,000" in reason for reason in first.failures.values())
    assert extract(photos, out, max_pixels=300_000).computed == 0
    again = extract(photos, out, retry_failed=True)
    assert (again.computed, again.ok, again.failed) == (2, 6, 0)
    extract(photos, whole, layers=["layer1", "layer2"])
    assert out.read_bytes() == whole.read_bytes()
