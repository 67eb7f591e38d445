"""Files are known again by size and time, and what has neither never is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from cnncodes.extraction.stamps import NO_STAMP, file_stamp, image_table, is_stamped
from cnncodes.images.loading import load_images


def test_table_has_size_and_time_of_files_only(tmp_path: Path) -> None:
    path, gone = tmp_path / "here.png", tmp_path / "gone.png"
    for one in (path, gone):
        Image.new("RGB", (40, 30)).save(one)
    os.utime(path, ns=(10, 10))  # as of a file that was moved here: the time of the move is the later one
    images = load_images([path, np.zeros((8, 8, 3), np.uint8), gone], labelled=False)
    gone.unlink()
    table = image_table(images)
    assert table.ids == images.ids
    assert [table.stamp(row) for row in range(3)] == [
        (path.stat().st_size, path.stat().st_ctime_ns),
        NO_STAMP,
        NO_STAMP,
    ]
    assert [is_stamped(source) for source in images.sources] == [True, False, True]


def test_stamp_of_a_file_tells_that_it_was_made_written_or_replaced(tmp_path: Path) -> None:
    path, other = tmp_path / "codes.h5", tmp_path / "other.h5"
    stamps = [file_stamp(path)]
    for one in (path, other):
        one.write_bytes(b"a")
        os.utime(one, ns=(10, 10))
    stamps.append(file_stamp(path))
    path.write_bytes(b"b")
    stamps.append(file_stamp(path))
    other.replace(path)
    stamps.append(file_stamp(path))
    assert stamps[0] == (0, 0)
    assert len(set(stamps)) == 4
    assert stamps[1][1] == stamps[3][1] == 10
