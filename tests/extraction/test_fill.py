"""Rows are written as they are computed, and an error of the disk is told in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_codes import CODES, DIGESTS, IDS, PROVENANCE, N
from tiny_network import PLAIN

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError
from cnncodes.extraction import fill as module
from cnncodes.extraction.fill import fill, fill_thumbnails
from cnncodes.extraction.sources import read_source
from cnncodes.extraction.worker_thread import Batch
from cnncodes.images.image_set import ImageSet

IMAGES = ImageSet(IDS, [None] * N)


class Engine:
    """Gives batches of four rows, of which row 5 fails and row 6 is odd."""

    def batches(self, images: ImageSet, rows: np.ndarray, *rest: Any, **options: Any) -> Iterator[Batch]:
        for start in range(0, len(rows), 4):
            good = np.array([row for row in rows[start : start + 4].tolist() if row != 5])
            failures = {5: ("it is broken", DIGESTS[5])} if start == 4 else {}
            remarks = {6: ["it is odd"]} if start == 4 else {}
            yield Batch(good, {name: codes[good] for name, codes in CODES.items()}, DIGESTS[good], failures, remarks)


ENGINE: Any = Engine()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file without rows."""
    CodesWriter.create(tmp_path / "codes.h5", ImageTable(IDS), PROVENANCE)
    return tmp_path / "codes.h5"


def test_batches_are_written_with_failures_and_remarks(path: Path) -> None:
    with CodesWriter(path) as file:
        assert fill(file, IMAGES, np.arange(10), ENGINE) == {6: ["it is odd"]}
    with CodesFile.open(path) as file:
        assert file.counts == {"pending": 2, "ok": 9, "failed": 1}
        assert file.errors[5] == "it is broken"
        rows = file.rows(labelled=False)
        np.testing.assert_array_equal(file.codes("layer1"), CODES["layer1"][rows])
        np.testing.assert_array_equal(file.sha256[:10], DIGESTS[:10])


@pytest.mark.parametrize(("seconds", "syncs"), [(1e9, 1), (-1.0, 4)])
def test_it_syncs_now_and_then_and_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, syncs: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(module, "SYNC_SECONDS", seconds)
    monkeypatch.setattr(CodesWriter, "sync", lambda self: calls.append(1))
    with CodesWriter(path) as file:
        fill(file, IMAGES, np.arange(N), ENGINE)
    assert len(calls) == syncs


def test_a_full_disk_is_one_line_and_what_was_written_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail = CodesWriter.fail

    def full(self: CodesWriter, *rest: Any) -> None:
        fail(self, *rest)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CodesWriter, "fail", full)
    with (
        CodesWriter(path) as file,
        pytest.raises(CodesFileError, match=r"cannot be written \(No space left.*run the same"),
    ):
        fill(file, IMAGES, np.arange(N), ENGINE)
    with CodesFile.open(path) as file:
        assert file.counts == {"pending": 4, "ok": 7, "failed": 1}


def test_the_picture_of_an_image_that_has_changed_since_is_not_made(tmp_path: Path) -> None:
    images = ImageSet(IDS, [np.full((8, 9, 3), row, np.uint8) for row in range(N)])
    CodesWriter.create(tmp_path / "codes.h5", ImageTable(IDS), PROVENANCE, thumbnails=True)
    digests = np.stack([read_source(images, row)[1] for row in range(N)])
    digests[3] = 0
    with CodesWriter(tmp_path / "codes.h5") as file:
        file.write(np.arange(N), CODES, digests)
        notes = fill_thumbnails(file, images, np.arange(1, N), PLAIN)
        assert notes == ["1 of the images could not be read again, and have no small picture"]
        assert file.without_thumbnail().tolist() == [0, 3]
        assert file.thumbnails(np.array([7]))["grey"][0, 5, 5] == 7
        assert file.counts["ok"] == N
