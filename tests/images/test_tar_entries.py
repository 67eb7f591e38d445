"""What tar archives list: links, what is no file, and where the list ends."""

from __future__ import annotations

import io
import tarfile

import pytest
from archive_files import pngs, tar_of

from cnncodes.errors import ImagesError
from cnncodes.images.archive_file import Archive
from cnncodes.images.tar_entries import NOT_REGULAR, SPARSE, TarEntries


def _add(path, name, kind, target=""):
    with tarfile.open(path, "a") as archive:
        header = tarfile.TarInfo(name)
        header.type, header.linkname = kind, target
        archive.addfile(header)


def test_hard_links_are_the_files_that_they_lead_to(tmp_path):
    path = tar_of(tmp_path / "a.tar", pngs("./a.png"))
    _add(path, "b/hard.png", tarfile.LNKTYPE, "a.png")
    _add(path, "lost.png", tarfile.LNKTYPE, "gone.png")
    _add(path, "soft.png", tarfile.SYMTYPE, "a.png")
    _add(path, "b", tarfile.DIRTYPE)
    _add(path, "pipe.png", tarfile.FIFOTYPE)
    entries = {entry.name: entry for entry in TarEntries(Archive(str(path)))}
    assert entries["b/hard.png"].file.read_bytes() == entries["./a.png"].file.read_bytes()
    assert entries["lost.png"].failure == "a link to a file that is not in the archive"
    assert (entries["soft.png"].kind, entries["soft.png"].target, entries["b/"].kind) == ("link", "a.png", "folder")
    assert entries["pipe.png"].failure == NOT_REGULAR


def test_labels_are_read_on_the_way_and_large_files_are_not(tmp_path):
    path = tar_of(tmp_path / "a.tar", {"1.cls": b"7", "1.JSON": b"{}", "2.cls": bytes(1 << 17), "1.txt": b"7"})
    assert {entry.name: entry.content for entry in TarEntries(Archive(str(path)))} == {
        "1.cls": b"7",
        "1.JSON": b"{}",
        "2.cls": None,
        "1.txt": None,
    }


def test_sparse_files_are_recorded(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("GNUSparseFile.0/a.png")
        header.size = 4
        header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "a.png", "GNU.sparse.realsize": "9999"}
        archive.addfile(header, io.BytesIO(b"1234"))
        archive.addfile(tarfile.TarInfo("b.png"))
    assert {entry.name: entry.failure for entry in TarEntries(Archive(str(path)))} == {"a.png": SPARSE, "b.png": ""}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_damage_is_told_after_what_could_be_read(tmp_path, mode):
    whole = tar_of(tmp_path / "a.tar", {name: bytes(range(256)) * 4000 for name in ("a.png", "b.png", "c.png")}, mode)
    path = tmp_path / "b.tar"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    entries = TarEntries(Archive(str(path)))
    names = [entry.name for entry in entries]
    assert names == ["a.png", "b.png", "c.png"][: len(names)]
    assert "it is cut off" in entries.damage or "it cannot be read after" in entries.damage


def test_no_end_mark_is_a_remark(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tarfile.TarInfo("a.png").tobuf())
    entries = TarEntries(Archive(str(path)))
    assert ([entry.name for entry in entries], entries.damage) == (["a.png"], "")
    assert entries.note == f"{path} has no mark at its end: it may be cut off"


def test_what_is_no_tar_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no archive" * 99)
    with pytest.raises(ImagesError, match=r"a\.tar: no tar archive that can be read \(it is damaged at byte 0\)"):
        list(TarEntries(Archive(str(tmp_path / "a.tar"))))
