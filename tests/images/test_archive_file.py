"""An archive is known by its first bytes, and by its size and time."""

from __future__ import annotations

import gzip
import os
import pickle

import fsspec
import pytest

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images import archive_file, network
from cnncodes.images.archive_file import CHANGED, Archive


def test_what_an_archive_is_is_told_by_its_bytes_and_not_by_its_name(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"PK\3\4....")
    assert Archive(str(path)).is_zip
    path.write_bytes(gzip.compress(b"0123456789"))
    archive = pickle.loads(pickle.dumps(Archive(str(path))))
    assert (archive.is_compressed, archive.name, str(archive)) == (True, "a.tar", str(path))
    assert archive.key == (str(path), path.stat().st_size, path.stat().st_mtime_ns)
    with archive.open() as stream:
        assert stream.read() == b"0123456789"


def test_it_is_read_at_a_place_and_ends_where_it_ends(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"0123456789")
    archive = Archive(str(path))
    assert archive.read_at(3, 4) == b"3456"
    assert archive.read_at(8, 4) == b"89"
    path.unlink()
    with pytest.raises(DecodeError, match="the archive: no such file"):
        archive.read_at(0, 1)


def test_an_archive_that_is_written_to_while_it_is_read_is_not_believed(tmp_path, monkeypatch):
    path = tmp_path / "a.tar"
    path.write_bytes(b"0123456789")
    archive = Archive(str(path))
    stamps = iter([(10, 1), (10, 2)])
    monkeypatch.setattr(archive_file, "_stamp", lambda stream: next(stamps))
    with pytest.raises(DecodeError, match=CHANGED):
        archive.read_at(0, 10)


def test_one_that_is_missing_empty_or_no_file_is_refused(tmp_path):
    (tmp_path / "empty.zip").touch()
    os.mkfifo(tmp_path / "pipe.tar")
    for name, words in (("no.zip", "no such file"), ("empty.zip", "0 bytes"), ("pipe.tar", "not a regular file")):
        with pytest.raises(ImagesError, match=words) as error:
            Archive(str(tmp_path / name))
        assert name in str(error.value)


def test_a_part_of_a_remote_archive_that_comes_short_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.001)
    files = fsspec.filesystem("memory")
    url = f"memory://{tmp_path.name}/a.tar"
    files.pipe(url, b"0123456789")
    files.pipe(f"{url}.gz", b"")
    archive = Archive(url)
    plain, lengths = type(files).cat_file, [1, 0]

    def cat_file(self, path, start=None, end=None):
        return plain(self, path, start, end)[: lengths.pop() if lengths else None]

    monkeypatch.setattr(type(files), "cat_file", cat_file)
    assert (archive.read_at(3, 4), lengths) == (b"3456", [])
    assert archive.read_at(8, 4) == b"89"
    with pytest.raises(ImagesError, match=r"a\.tar\.gz: the archive is empty"):
        Archive(f"{url}.gz")
