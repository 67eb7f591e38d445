"""Files in plain tar archives, read by position, and refused when the archive has changed."""

from __future__ import annotations

import pickle

import fsspec
import pytest
from archive_files import pngs, tar_of

from cnncodes.errors import DecodeError
from cnncodes.images.archive_file import CHANGED, Archive
from cnncodes.images.tar_entries import TarEntries
from cnncodes.images.tar_members import CUT_OFF


def _files(path):
    return {entry.name: entry.file for entry in TarEntries(Archive(str(path)))}


def test_bytes_and_stamps(tmp_path):
    members = {**pngs("a.png", "b.png"), "empty.png": b""}
    files = _files(tar_of(tmp_path / "a.tar", members))
    again = pickle.loads(pickle.dumps(files))
    assert {name: (file.read_bytes(), file.size) for name, file in again.items()} == {
        name: (data, len(data)) for name, data in members.items()
    }
    stamps = [file.changed for file in files.values()]
    assert (
        stamps
        == [file.changed for file in again.values()]
        == [file.changed for file in _files(tmp_path / "a.tar").values()]
    )
    assert all(0 <= stamp < 2**63 for stamp in stamps)
    assert len(set(stamps)) == 3
    tar_of(tmp_path / "a.tar", {**members, "c.png": b"c"})
    assert not {file.changed for file in _files(tmp_path / "a.tar").values()} & set(stamps)


def test_an_archive_that_has_changed_is_noticed(tmp_path):
    path = tar_of(tmp_path / "a.tar", pngs("a.png", "b.png"))
    files = _files(path)
    tar_of(path, pngs("b.png", "a.png"))
    for file in files.values():
        with pytest.raises(DecodeError, match=CHANGED):
            file.read_bytes()
    tar_of(path, pngs("a.png", "b.png"))
    path.write_bytes(path.read_bytes()[: files["b.png"].offset + 5])
    assert files["a.png"].read_bytes() == pngs("a.png")["a.png"]
    with pytest.raises(DecodeError, match=CUT_OFF):
        files["b.png"].read_bytes()


def test_where_nobody_says_when_the_archive_changed_nobody_says_it_of_a_file(tmp_path, monkeypatch):
    archives = fsspec.filesystem("memory")
    url = f"memory://{tmp_path.name}/a.tar"
    archives.pipe(url, tar_of(tmp_path / "a.tar", {"a.png": b"one"}).read_bytes())
    assert _files(url)["a.png"].changed >= 0
    n_bytes = (tmp_path / "a.tar").stat().st_size
    monkeypatch.setattr(type(archives), "info", lambda self, path: {"name": path, "type": "file", "size": n_bytes})
    assert (_files(url)["a.png"].changed, _files(url)["a.png"].read_bytes()) == (-1, b"one")
