"""Files in compressed tar archives: one pass serves all threads, and memory stays bounded."""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from archive_files import tar_of

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images import network, tar_streams
from cnncodes.images.archive_file import CHANGED, Archive
from cnncodes.images.tar_entries import TarEntries
from cnncodes.images.tar_members import CUT_OFF

N = 64
MEMBERS = {f"{i:03d}.png": bytes([i]) * 1000 + os.urandom(200) for i in range(N)}


@pytest.fixture
def opened(monkeypatch):
    """Names of archives, once for each time that one is opened."""
    names = []
    plain = Archive.open

    def open_and_count(archive):
        names.append(archive.name)
        return plain(archive)

    monkeypatch.setattr(Archive, "open", open_and_count)
    return names


def _files(path):
    return [entry.file for entry in TarEntries(Archive(str(path)))]


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_one_pass_serves_workers_that_take_pieces_in_turn(tmp_path, opened, mode):
    files = pickle.loads(pickle.dumps(_files(tar_of(tmp_path / "a.tar", MEMBERS, f"w:{mode}"))))
    opened.clear()
    pieces = [range(start, start + 8) for start in range(0, N, 8)]

    def read(piece):
        data = {}
        for i in piece:
            files[i].reach()
            data[i] = files[i].read_bytes()
        return data

    with ThreadPoolExecutor(4) as pool:
        data = {i: one for piece in pool.map(read, pieces) for i, one in piece.items()}
    assert [data[i] for i in range(N)] == list(MEMBERS.values())
    assert opened == ["a.tar"]
    assert [file.size for file in files] == [1200] * N


def test_what_is_dropped_is_read_by_another_pass_and_little_is_kept(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(tar_streams, "KEPT_BYTES", 5000)
    files = _files(tar_of(tmp_path / "a.tar", MEMBERS, "w:gz"))
    opened.clear()
    order = [
        i
        for start in range(0, N, 16)
        for pair in zip(range(start, start + 8), range(start + 8, start + 16), strict=True)
        for i in pair
    ]
    assert [files[i].read_bytes() for i in order] == [MEMBERS[f"{i:03d}.png"] for i in order]
    assert sum(len(data) for data in tar_streams._kept._files.values()) <= 5000
    assert len(opened) == 2  # one for each of two workers that are always eight images apart, and no more
    assert files[0].read_bytes() == MEMBERS["000.png"]
    assert len(opened) == 3


def test_rows_whose_codes_are_there_are_passed_over(tmp_path, opened):
    files = _files(tar_of(tmp_path / "a.tar", MEMBERS, "w:xz"))
    opened.clear()
    assert [files[i].read_bytes() for i in range(40, N, 3)] == [MEMBERS[f"{i:03d}.png"] for i in range(40, N, 3)]
    assert opened == ["a.tar"]


def test_an_archive_that_has_changed_or_is_cut_off_is_noticed_once(tmp_path, opened):
    path = tar_of(tmp_path / "a.tar", MEMBERS, "w:gz")
    files = _files(path)
    tar_of(path, dict(reversed(MEMBERS.items())), "w:gz")
    opened.clear()
    for file in files:
        with pytest.raises(DecodeError, match=CHANGED):
            file.read_bytes()
    assert len(opened) == 1
    tar_of(path, MEMBERS, "w:gz")
    files = _files(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    opened.clear()
    reasons = []
    for file in files:
        try:
            file.read_bytes()
        except DecodeError as error:
            reasons.append(str(error))
    assert set(reasons) == {CUT_OFF}
    assert 20 < len(reasons) < 44
    assert len(opened) == 1
    path.unlink()
    tar_streams._runners.clear()
    with pytest.raises(DecodeError, match="the archive: no such file"):
        files[0].read_bytes()


def test_a_remote_archive_that_fails_for_long_is_read_again_by_another_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 0.0)
    archives = fsspec.filesystem("memory")
    members = {f"{i}.png": os.urandom(1 << 20) for i in range(4)}
    url = f"memory://{tmp_path.name}/a.tgz"
    archives.pipe(url, tar_of(tmp_path / "a.tgz", members, "w:gz").read_bytes())
    files = _files(url)
    plain, is_down = type(archives).cat_file, True

    def cat_file(self, path, start=None, end=None):
        if is_down and start >= 2 << 20:
            raise TimeoutError
        return plain(self, path, start, end)

    monkeypatch.setattr(type(archives), "cat_file", cat_file)
    assert files[0].read_bytes() == members["0.png"]
    for _ in range(2):
        with pytest.raises(ImagesError, match=r"a\.tgz: no answer in time \(1 tries"):
            files[3].read_bytes()
    is_down = False
    assert [file.read_bytes() for file in files[2:]] == [members["2.png"], members["3.png"]]


def test_few_archives_are_open_at_a_time(tmp_path):
    paths = [tar_of(tmp_path / f"{i}.tar", {"a.png": b"%d" % i * 2000, "b.png": b"b"}, "w:gz") for i in range(12)]
    for i, path in enumerate(paths):
        assert _files(path)[0].read_bytes() == b"%d" % i * 2000
    assert len(tar_streams._runners) == tar_streams.MAX_ARCHIVES
    n_files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert n_files < 200
    assert threading.active_count() < 50
