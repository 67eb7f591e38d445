"""Headers of tar archives, one after the other: POSIX (ustar, pax), GNU and old ones.

Python's `tarfile` takes a damaged header for the end of the archive, and versions of it before 3.11.14 hang on some.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from cnncodes.errors import first_line

__all__ = ["BLOCK", "FOLDER", "HARD_LINK", "LINK", "REGULAR", "Header", "TarReader"]

BLOCK = 512
SKIP_BYTES = 1 << 20  # read at a time to pass over a file in a stream that cannot seek
MAX_DESCRIPTION_BYTES = 1 << 20  # of a long name, or of pax records
MAX_DIGITS = 8  # of the length of a pax record
REGULAR, HARD_LINK, LINK, FOLDER, OTHER = "file", "hard link", "link", "folder", "other"
OLD_TYPES = (b"0", b"\0")  # old programs mark folders by the slash alone
KINDS = {b"0": REGULAR, b"\0": REGULAR, b"7": REGULAR, b"S": REGULAR, b"1": HARD_LINK, b"2": LINK, b"5": FOLDER}
WITHOUT_CONTENT = tuple(b"%d" % number for number in range(1, 7))  # types whose size says nothing of what follows
DESCRIPTIONS = (b"L", b"K", b"x", b"g")
CUT_OFF = "it is cut off at byte {:,}"
DAMAGED = "it is damaged at byte {:,}"
CANNOT_BE_READ = "it cannot be read after byte {:,}"


class Header(NamedTuple):
    """What a tar archive says of one file.

    Attributes
    ----------
    name, target : str
        Bytes that are not UTF-8 are surrogates; the target is that of a link.
    kind : {"file", "hard link", "link", "folder", "other"}
    offset, size : int
        Where its content lies.
    is_sparse : bool
        Whether holes are left out of its content.
    crc : int
        CRC-32 of the block before the content, by which the file is known again.
    """

    name: str
    kind: str
    target: str
    offset: int
    size: int
    is_sparse: bool
    crc: int


class TarReader:
    """Reads the headers of a tar archive, and the files that are asked for on the way.

    Parameters
    ----------
    stream : binary file
        At the beginning of the archive, not compressed.
    size : int, optional
        Bytes of the archive. If they are known, the stream is sought in; otherwise it is read through.

    Attributes
    ----------
    damage : str
        Where and why reading ended before the end of the archive; empty if it did not.
    ended : bool
        Whether there was a block that marks the end, or damage.
    """

    def __init__(self, stream: IO[bytes], size: int | None = None) -> None:
        self._stream, self._size = stream, size
        self._position = 0  # of the stream
        self._records: dict[str, str] = {}  # long names and sizes that belong to the next header
        self.damage, self.ended = "", False

    def __iter__(self) -> Iterator[Header]:
        next_header = 0
        while self._skip_to(next_header):
            block = self._read(BLOCK)
            if not block:
                return
            if len(block) < BLOCK:
                self._end(CUT_OFF.format(self._position))
                return
            if not block.strip(b"\0"):
                self.ended = True
                return
            header = self._header(block)
            if header is None:
                return
            next_header = header.offset + -(-header.size // BLOCK) * BLOCK
            if header.kind:
                yield header

    def content(self, header: Header) -> bytes:
        """Return the file of the header that was read last; it is shorter than it should be if the archive is."""
        return self._read(header.size)

    def _header(self, block: bytes) -> Header | None:
        """Return what a block says; of kind "" if it and what follows only describe the next one; None if damaged."""
        kind_byte, size = block[156:157], _number(block[124:136])
        if size is None or not _is_sum_right(block):
            self._end(DAMAGED.format(self._position - BLOCK))
            return None
        if kind_byte in DESCRIPTIONS:
            return self._description(kind_byte, size)
        name, target = _text(block[:100]), _text(block[157:257])
        if block[257:263] == b"ustar\0" and block[345]:
            name = f"{_text(block[345:500])}/{name}"
        is_sparse = kind_byte == b"S"
        is_continued = is_sparse and block[482]
        while is_continued:
            more = self._read(BLOCK)
            is_continued = len(more) == BLOCK and more[504]
        records, self._records = self._records, {}
        name, target = records.get("GNU.sparse.name", records.get("path", name)), records.get("linkpath", target)
        is_sparse |= any(key.startswith("GNU.sparse.") for key in records)
        if (declared := records.get("size", "")).isdecimal():
            size = int(declared)
        kind = FOLDER if name.endswith("/") and kind_byte in OLD_TYPES else KINDS.get(kind_byte, OTHER)
        if kind_byte in WITHOUT_CONTENT:
            size = 0
        return Header(name, kind, target, self._position, size, is_sparse, zlib.crc32(block))

    def _description(self, kind_byte: bytes, size: int) -> Header | None:
        """Read a long name, or pax records, which belong to the next header."""
        header = Header("", "", "", self._position, size, False, 0)
        if kind_byte == b"g":  # for the whole archive: nothing that tells names or sizes
            return header
        data = self._read(size) if size <= MAX_DESCRIPTION_BYTES else b""
        if len(data) < size:
            self._end(
                CUT_OFF.format(self._position) if size <= MAX_DESCRIPTION_BYTES else DAMAGED.format(header.offset)
            )
            return None
        if kind_byte == b"x":
            self._records |= _pax_records(data)
        else:
            self._records["path" if kind_byte == b"L" else "linkpath"] = _text(data)
        return header

    def _skip_to(self, place: int) -> bool:
        """Get to a position, unless the archive ends before it."""
        if self._size is not None:
            if place > self._size:
                self._end(CUT_OFF.format(self._size))
                return False
            if place != self._position:
                self._stream.seek(place)
                self._position = place
        while self._position < place:
            if not self._read(min(place - self._position, SKIP_BYTES)):
                self._end(CUT_OFF.format(self._position))
                return False
        return True

    def _read(self, n_bytes: int) -> bytes:
        try:
            data = self._stream.read(n_bytes)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            self._end(f"{CANNOT_BE_READ.format(self._position)} ({first_line(error)})")
            return b""
        self._position += len(data)
        return data

    def _end(self, damage: str) -> None:
        self.damage, self.ended = self.damage or damage, True


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int | None:
    """Return a size: octal digits, or binary where the first bit is set; None if it is neither, or negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    try:
        return int(digits or b"0", 8) if b"-" not in digits else None
    except ValueError:
        return None


def _is_sum_right(block: bytes) -> bool:
    """Whether the bytes of a header add up to what it says; some old programs added them up as signed ones."""
    declared = _number(block[148:156])
    rest = block[:148] + b" " * 8 + block[156:]
    return declared == sum(rest) or declared == sum(rest) - 256 * sum(byte > 127 for byte in rest)


def _pax_records(data: bytes) -> dict[str, str]:
    """Return records of the form ``length key=value``, of which each ends with a line feed."""
    records: dict[str, str] = {}
    while data:
        digits, separator, _ = data.partition(b" ")
        length = int(digits) if separator and digits.isdigit() and len(digits) < MAX_DIGITS else 0
        key, separator, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not separator:  # damaged
            break
        records[_text(key)] = _text(value)
        data = data[length:]
    return records
