"""Outliers: what is far from all other images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes import audit, extract


def test_a_photograph_among_clothes_is_an_outlier_and_labels_are_not_needed(small_sample: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in small_sample.rglob("*.png"):
        shutil.copy(path, images / "-".join(path.parts[-3:]))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "noise.png")
    extract(images, tmp_path / "codes.h5", layers=["penultimate"])
    found = audit(tmp_path / "codes.h5")
    assert (found.n, found.classes, found.accuracy, found.suspects) == (46, {}, None, [])
    assert found.imbalance == 1
    assert any("suspect labels are not looked for" in note for note in found.notes)
    assert [row.id for row in found.outliers][:1] == ["noise.png"]
    assert len(found.outliers) <= 2


@pytest.mark.parametrize("most", [44, 45])
def test_what_is_not_looked_for_is_said(sample_codes: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("cnncodes.insight.outliers.MOST", most)
    notes = audit(sample_codes).notes
    assert ("outliers are looked for among 11 to 44 images only" in notes) == (most == 44)
