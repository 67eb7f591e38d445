"""Files in ZIP archives, found by the central directory and read by position."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator

from cnncodes.errors import CnnCodesError, DecodeError, ImagesError, first_line
from cnncodes.images.archive_file import CHANGED, Archive, Entry
from cnncodes.images.files import MAX_BYTES
from cnncodes.images.stored_file import StoredFile

__all__ = ["ZipMember", "zip_entries"]

LOCAL_HEADER = struct.Struct("<4s2xHH16xHH")  # signature, flags, method, lengths of name and extra field
SIGNATURE = b"PK\3\4"
NAME_BYTES = 256  # read with each member for its name and extra field; longer ones take a second read
ENCRYPTED, UTF8_NAMES = 1, 1 << 11  # flags
DEFLATE_GROWTH = 1000  # deflate makes no file longer by more than one part of so many
COMPRESSIONS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}  # that are not read
MAX_LINK_BYTES = 4096
DAMAGED = "damaged in the archive: {}"


class ZipMember(StoredFile):
    """A file in a ZIP archive, stored or deflated; its CRC-32 tells whether it has changed."""

    __slots__ = ("archive", "crc", "method", "n_bytes", "n_packed", "offset")

    def __init__(self, archive: Archive, offset: int, n_packed: int, n_bytes: int, crc: int, method: int) -> None:
        self.archive, self.offset, self.n_packed, self.n_bytes = archive, offset, n_packed, n_bytes
        self.crc, self.method = crc, method

    def __reduce__(self) -> tuple[type, tuple[Archive, int, int, int, int, int]]:
        return type(self), (self.archive, self.offset, self.n_packed, self.n_bytes, self.crc, self.method)

    @property
    def size(self) -> int:
        """Number of bytes, inflated, as the archive says."""
        return self.n_bytes

    @property
    def changed(self) -> int:
        """Its CRC-32, as the archive says."""
        return self.crc

    @property
    def is_distant(self) -> bool:  # type: ignore[override]
        """Whether the archive is remote."""
        return self.archive.is_remote

    def read_bytes(self) -> bytes:
        """Return the file, inflated, and compared with its checksum."""
        block = self.archive.read_at(self.offset, LOCAL_HEADER.size + NAME_BYTES + self.n_packed)
        if len(block) < LOCAL_HEADER.size:
            raise DecodeError("the archive is cut off before it")
        signature, _, method, name, extra = LOCAL_HEADER.unpack_from(block)
        if signature != SIGNATURE or method != self.method:
            raise DecodeError(CHANGED)
        start = LOCAL_HEADER.size + name + extra
        if len(block) < start + self.n_packed:
            block = self.archive.read_at(self.offset, start + self.n_packed)
            if len(block) < start + self.n_packed:
                raise DecodeError("the archive is cut off within it")
        data = self._inflated(memoryview(block)[start : start + self.n_packed])
        if len(data) != self.n_bytes or zlib.crc32(data) != self.crc:
            raise DecodeError(DAMAGED.format("its size or its checksum differs"))
        return data

    def _inflated(self, packed: memoryview) -> bytes:
        if self.method == zipfile.ZIP_STORED:
            return bytes(packed)
        try:  # never more than the size that is declared, which has its limit
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.n_bytes + 1)
        except zlib.error as error:
            raise DecodeError(DAMAGED.format(first_line(error))) from error


def zip_entries(archive: Archive) -> Iterator[Entry]:
    """Yield what the central directory of a ZIP archive lists.

    Raises
    ------
    ImagesError
        It is no such archive, has no central directory, as one that is cut off, or needs a password.
    """
    try:
        with archive.open() as stream, zipfile.ZipFile(stream) as opened:
            members = opened.infolist()
    except CnnCodesError:  # of the network
        raise
    except Exception as error:  # zipfile raises errors of many types for files that are none
        raise ImagesError(
            f"{archive}: no ZIP archive that can be read ({first_line(error)}); if it is cut off, fetch it again"
        ) from error
    has_slashes = any("/" in member.filename for member in members)
    for member in members:
        name = _name(member)
        if not has_slashes:  # as some programs for Windows write them
            name = name.replace("\\", "/")
        file = ZipMember(
            archive, member.header_offset, member.compress_size, member.file_size, member.CRC, member.compress_type
        )
        if name.endswith("/"):
            yield Entry(name, file, kind="folder")
        elif member.flag_bits & ENCRYPTED:
            raise ImagesError(f"{archive}: {name!r} in it needs a password; unpack the archive, and give the folder")
        else:
            failure = _failure(member, archive.size)
            is_link = stat.S_ISLNK(member.external_attr >> 16) and not failure and file.size <= MAX_LINK_BYTES
            yield _link(name, file) if is_link else Entry(name, file, failure=failure)


def _name(member: zipfile.ZipInfo) -> str:
    """Return a name; many programs write UTF-8 without saying so, as those of Macs, and zipfile reads it as cp437."""
    if not member.flag_bits & UTF8_NAMES:
        try:
            return member.filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return member.filename


def _failure(member: zipfile.ZipInfo, archive_size: int) -> str:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = COMPRESSIONS.get(member.compress_type, f"method {member.compress_type}")
        return f"compressed by {method}, which is not read; write the archive anew with deflate, or unpack it"
    if member.file_size > MAX_BYTES:
        return f"{member.file_size:,} bytes, more than the limit of {MAX_BYTES:,}"
    longest = member.file_size + member.file_size // DEFLATE_GROWTH + NAME_BYTES  # that deflate could make of it
    is_inside = 0 <= member.header_offset <= archive_size - member.compress_size
    return "" if is_inside and member.compress_size <= longest else DAMAGED.format("its place or its size is wrong")


def _link(name: str, file: ZipMember) -> Entry:
    try:
        return Entry(name, file, kind="link", target=file.read_bytes().decode("utf-8", "surrogateescape"))
    except DecodeError as error:
        return Entry(name, file, failure=str(error))
