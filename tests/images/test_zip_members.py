"""Files in ZIP archives: compared with zipfile, with their checksums, and never inflated beyond what they declare."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib

import pytest
from archive_files import pngs, zip_of

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images.archive_file import CHANGED, Archive
from cnncodes.images.zip_members import ZipMember, zip_entries

CENTRAL = b"PK\1\2"


def _entries(path):
    return {entry.name: entry for entry in zip_entries(Archive(str(path)))}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bytes_sizes_and_checksums_are_those_of_zipfile(tmp_path, method):
    members = {**pngs("a.png", "b/c.png", f"{'long' * 100}.png"), "empty.png": b"", "text.txt": b"x" * 100_000}
    entries = _entries(zip_of(tmp_path / "a.zip", members, method))
    assert list(entries) == list(members)
    for name, data in members.items():
        file = pickle.loads(pickle.dumps(entries[name].file))
        assert (file.read_bytes(), file.size, file.changed) == (data, len(data), zlib.crc32(data))
        assert (file.is_distant, hasattr(file, "__dict__")) == (False, False)


def test_a_zip_behind_other_bytes_and_with_64_bit_sizes_is_read(tmp_path):
    path, data = tmp_path / "a.zip", pngs("a.png")["a.png"]
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.png", "w", force_zip64=True) as member:
        member.write(data)
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert _entries(path)["a.png"].file.read_bytes() == data


@pytest.mark.parametrize("place", ["local", "content"])
def test_a_damaged_member_is_noticed(tmp_path, place):
    data = pngs("a.png")["a.png"]
    path = zip_of(tmp_path / "a.zip", {"a.png": data}, zipfile.ZIP_STORED)
    file = _entries(path)["a.png"].file
    content = bytearray(path.read_bytes())
    content[1 if place == "local" else 60] ^= 8
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=CHANGED if place == "local" else "its checksum differs"):
        file.read_bytes()
    path.write_bytes(content[:50])
    with pytest.raises(DecodeError, match="cut off within it" if place == "content" else CHANGED):
        file.read_bytes()


def test_a_size_that_lies_does_not_inflate_more_than_it_says(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a.png": bytes(50_000_000)})
    content = bytearray(path.read_bytes())
    at = content.rindex(CENTRAL)
    content[at + 24 : at + 28] = struct.pack("<I", 60_000)
    path.write_bytes(content)
    file = _entries(path)["a.png"].file
    assert len(file._inflated(memoryview(content)[35 : 35 + file.n_packed])) == 60_001
    with pytest.raises(DecodeError, match="its size or its checksum differs"):
        file.read_bytes()
    content[at + 20 : at + 24] = struct.pack("<I", 2**31 - 1)  # more than the archive has
    path.write_bytes(content)
    assert _entries(path)["a.png"].failure == "damaged in the archive: its place or its size is wrong"
    content[at + 24 : at + 28] = struct.pack("<I", 2**31 + 5)
    path.write_bytes(content)
    assert _entries(path)["a.png"].failure == "2,147,483,653 bytes, more than the limit of 2,147,483,648"


def test_bytes_that_are_no_deflate_stream(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a.png": bytes(1000)})
    file = _entries(path)["a.png"].file
    content = bytearray(path.read_bytes())
    content[35:39] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="damaged in the archive: Error -3"):
        file.read_bytes()


def test_passwords_are_refused_and_other_methods_recorded(tmp_path):
    path = zip_of(tmp_path / "a.zip", pngs("a.png"), zipfile.ZIP_LZMA)
    assert "compressed by LZMA, which is not read" in _entries(path)["a.png"].failure
    content = bytearray(path.read_bytes())
    content[content.rindex(CENTRAL) + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ImagesError, match=r"a\.zip: 'a\.png' in it needs a password; unpack the archive"):
        _entries(path)


@pytest.mark.parametrize("content", [b"PK\3\4 but no more", b"PK", b"no archive at all" * 9])
def test_what_is_no_zip_or_is_cut_off_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ImagesError, match=r"a\.zip: no ZIP archive that can be read \(.*\); if it is cut off"):
        _entries(tmp_path / "a.zip")


def test_names_of_macs_and_of_windows(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("cafXX.png"), b"")
        archive.writestr(zipfile.ZipInfo("d\\cafX.png"), b"")
    utf8, cp437 = "café.png".encode(), b"d\\caf\x82.png"  # neither says which it is
    path.write_bytes(path.read_bytes().replace(b"cafXX.png", utf8).replace(b"d\\cafX.png", cp437))
    assert list(_entries(path)) == ["café.png", "d/café.png"]


def test_links_and_folders(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("b/l.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../a.png")
        archive.writestr(zipfile.ZipInfo("c/"), b"")
    entries = _entries(path)
    assert (entries["b/l.png"].kind, entries["b/l.png"].target) == ("link", "../a.png")
    assert entries["c/"].kind == "folder"
    assert isinstance(entries["c/"].file, ZipMember)
