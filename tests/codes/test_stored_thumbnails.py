"""The small pictures of a codes file: those that are missing or damaged are absent, and found."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnncodes.codes.columns import Columns
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.thumbnails import THUMBNAIL, pack, present
from cnncodes.codes.writer import CodesWriter

PROVENANCE = Provenance.from_dict({"layers": {"top": {"n_features": 2, "pooling": "avg"}}})
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
SIZES = np.array([[64, 64], [640, 480], [3, 65535]])
ROWS = np.array([0, 1, 3])


def written(path: Path) -> Path:
    CodesWriter.create(path, ImageTable(["a", "b", "c", "d"]), PROVENANCE, thumbnails=True)
    with CodesWriter(path) as file:
        digests = np.arange(128, dtype=np.uint8).reshape(4, 32)
        file.write(np.arange(4), {"top": np.ones((4, 2), np.float32)}, digests)
        file.write_thumbnails(ROWS, pack(PICTURES, SIZES), digests[ROWS])
    return path


def test_what_was_written_is_read_also_with_h5py(tmp_path: Path) -> None:
    path, expected = written(tmp_path / "codes.h5"), pack(PICTURES, SIZES)
    with CodesFile.open(path) as file:
        records = file.thumbnails(np.array([3, 2, 0]))
        assert file.has_thumbnails
        assert file.info()["thumbnails"]
    assert present(records).tolist() == [True, False, True]
    for name in ("grey", "colour", "size"):
        np.testing.assert_array_equal(records[name][[2, 0]], expected[name][[0, 2]])
    with h5py.File(path) as h5:
        np.testing.assert_array_equal(h5["images/thumbnail"]["grey"][1], expected["grey"][1])


def test_a_damaged_thumbnail_is_absent_and_named_and_the_codes_stay(tmp_path: Path) -> None:
    path = written(tmp_path / "codes.h5")
    with h5py.File(path) as h5:
        offset = h5["images/thumbnail"].id.get_offset()
    with path.open("r+b") as stream:
        stream.seek(offset + 4616 + 100)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    with CodesFile.open(path) as file:
        assert present(file.thumbnails(np.arange(4))).tolist() == [True, False, False, True]
        assert file.without_thumbnail().tolist() == [1, 2]
        assert file.verify().tolist() == [1]
        assert len(file.rows(labelled=False)) == 4


def test_a_thumbnail_whose_checksum_is_lost_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path / "codes.h5")
    with h5py.File(path) as h5:
        offset = h5["images/thumbnail"].id.get_offset()
    with path.open("r+b") as stream:
        stream.seek(offset + 2 * 4616 - 4)
        stream.write(bytes(4))
    with CodesFile.open(path) as file:
        assert file.without_thumbnail().tolist() == [1, 2]
        assert file.verify().tolist() == [1]


def test_missing_pictures_are_found_without_holding_all_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 400
    records = pack(np.repeat(PICTURES[:1], n, axis=0), np.full((n, 2), 9))
    CodesWriter.create(tmp_path / "codes.h5", ImageTable([str(i) for i in range(n)]), PROVENANCE, thumbnails=True)
    with CodesWriter(tmp_path / "codes.h5") as file:
        digests = np.ones((n, 32), np.uint8)
        file.write(np.arange(n), {"top": np.ones((n, 2), np.float32)}, digests)
        file.write_thumbnails(np.arange(1, n), records[1:], digests[1:])
    monkeypatch.setattr("cnncodes.codes.stored_thumbnails.CHUNK_BYTES", 20 * records.itemsize)
    with CodesFile.open(tmp_path / "codes.h5") as file:
        assert not len(file.verify())  # reads what is kept for later calls
        tracemalloc.start()
        assert file.without_thumbnail().tolist() == [0]
        assert not len(file.verify())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < records.nbytes / 4


def test_a_failed_image_loses_its_thumbnail(tmp_path: Path) -> None:
    path = written(tmp_path / "codes.h5")
    with CodesWriter(path) as file:
        file.fail(0, "gone", np.zeros(32, np.uint8))
        assert present(file.thumbnails(np.arange(4))).tolist() == [False, True, False, True]
        assert not len(file.verify())


def test_a_file_without_thumbnails_says_so(tmp_path: Path) -> None:
    CodesWriter.create(tmp_path / "codes.h5", ImageTable(["a"]), PROVENANCE)
    with CodesFile.open(tmp_path / "codes.h5") as file:
        assert not file.has_thumbnails
        assert not present(file.thumbnails(np.array([0]))).any()


def test_of_few_pictures_only_their_own_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    read = Columns.read

    def counted(self: Columns, offset: int, size: int) -> bytearray:
        sizes.append(size)
        return read(self, offset, size)

    with CodesFile.open(written(tmp_path / "codes.h5")) as file:
        monkeypatch.setattr(Columns, "read", counted)
        assert present(file.thumbnails(np.array([1]))).all()
    assert sum(sizes) == THUMBNAIL.itemsize + 32  # the picture and the digest of its image
