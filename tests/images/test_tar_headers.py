"""Headers of tar archives are read as Python's tarfile reads them, and damage never hangs or passes for the end."""

from __future__ import annotations

import io
import random
import tarfile

import pytest

from cnncodes.images.tar_headers import BLOCK, Header, TarReader

LONG = "folder/" * 30 + "é" * 60 + ".png"


def _archive(file_format: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=file_format) as archive:
        for name, data in {"a.png": b"a", "b/c.png": b"c" * 1000, LONG: b"long", "empty.png": b""}.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
        for kind, name in ((tarfile.LNKTYPE, "hard.png"), (tarfile.SYMTYPE, "link.png"), (tarfile.DIRTYPE, "folder")):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "a.png"
            archive.addfile(header)
        header = tarfile.TarInfo("pipe.png")
        header.type = tarfile.FIFOTYPE
        archive.addfile(header)
    return stream.getvalue()


def _read(data: bytes, *, seek: bool = True) -> tuple[list[Header], TarReader]:
    reader = TarReader(io.BytesIO(data), len(data) if seek else None)
    return list(reader), reader


@pytest.mark.parametrize("seek", [True, False])
@pytest.mark.parametrize("file_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_places_and_kinds_are_those_of_tarfile(file_format, seek):
    data = _archive(file_format)
    headers, reader = _read(data, seek=seek)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
    assert [(one.name.rstrip("/"), one.offset, one.size) for one in headers] == [
        (one.name, one.offset_data, one.size) for one in members
    ]
    assert [one.kind for one in headers] == ["file"] * 4 + ["hard link", "link", "folder", "other"]
    assert [one.target for one in headers[4:6]] == ["a.png", "a.png"]
    assert (reader.damage, reader.ended) == ("", True)


def test_ustar_prefixes_old_headers_and_binary_sizes():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(f"{'d' * 90}/{'e' * 60}/f.png"))
    assert _read(stream.getvalue())[0][0].name == f"{'d' * 90}/{'e' * 60}/f.png"
    header = tarfile.TarInfo("large.png")
    header.size = 9 << 33  # more than octal digits hold
    [one] = TarReader(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT)), (9 << 33) + 10 * BLOCK)
    assert one.size == 9 << 33
    block = bytearray(tarfile.TarInfo("old/").tobuf(tarfile.GNU_FORMAT))
    block[257:265] = bytes(8)  # before POSIX
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    assert _read(bytes(block) + bytes(1024))[0][0].kind == "folder"


def test_names_that_are_not_utf8_are_kept():
    header = tarfile.TarInfo("caf\udce9.png")
    [one] = _read(header.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape") + bytes(1024))[0]
    assert one.name == "caf\udce9.png"


def test_content_that_is_asked_for_is_read_on_the_way():
    reader = TarReader(io.BytesIO(_archive(tarfile.PAX_FORMAT)))
    assert {one.name: reader.content(one) for one in reader if one.name != "b/c.png"}[LONG] == b"long"


@pytest.mark.parametrize("seek", [True, False])
@pytest.mark.parametrize(
    ("cut", "damage"), [(700, "it is cut off at byte 700"), (1636, "it is cut off at byte 1,636"), (2560, "")]
)
def test_an_archive_that_is_cut_off(cut, damage, seek):
    headers, reader = _read(_archive(tarfile.GNU_FORMAT)[:cut], seek=seek)
    assert [one.name for one in headers] == ["a.png", "b/c.png"][: 1 + (cut > 1024)]
    assert (reader.damage, reader.ended) == (damage, bool(damage))


def test_a_damaged_header_is_not_taken_for_the_end():
    data = bytearray(_archive(tarfile.GNU_FORMAT))
    data[1024 + 3] ^= 1  # in the name of the second file
    headers, reader = _read(bytes(data))
    assert [one.name for one in headers] == ["a.png"]
    assert reader.damage == "it is damaged at byte 1,024"


@pytest.mark.parametrize("size", [b"\xff" * 12, b"-0000000001\0", b"\x80" + b"\xff" * 11, b"99999999999\0"])
def test_absurd_sizes_end_the_list(size):
    block = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.GNU_FORMAT))
    for kind in (b"0", b"x", b"L", b"g"):
        block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        _, reader = _read(bytes(block) * 4)
        assert reader.damage


def test_any_damage_ends_soon():
    data, rng = _archive(tarfile.PAX_FORMAT), random.Random(0)
    for _ in range(500):
        damaged = bytearray(data[: rng.randrange(1, len(data))])
        for _ in range(rng.randrange(6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        for seek in (True, False):
            headers, _ = _read(bytes(damaged), seek=seek)
            assert len(headers) <= len(damaged) // BLOCK
