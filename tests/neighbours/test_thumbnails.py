"""Images are made small as a codes file keeps them, and one that cannot be read stays blank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from photo_tiles import tiles

from cnncodes.codes.thumbnails import present
from cnncodes.extraction.thumbnails import thumbnail_of
from cnncodes.images.loading import load_images
from cnncodes.neighbours.thumbnails import read_thumbnails


def test_the_pictures_are_those_of_an_extraction_and_unreadable_ones_are_blank(tmp_path: Path) -> None:
    tiles()[9].save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    seen: list[tuple[int, int, int]] = []
    records = read_thumbnails(load_images(tmp_path, labelled=False), [0, 1], lambda *counts: seen.append(counts))
    assert present(records).tolist() == [True, False]
    expected = thumbnail_of(np.array(tiles()[9]).transpose(2, 0, 1))[0]
    for name in ("grey", "colour"):
        assert np.abs(records[name][0].astype(int) - expected[name]).max() <= 2
    assert records["size"][0].tolist() == [106, 106]
    assert seen[-1] == (2, 2, 0)
