"""Files in tar archives that are not compressed, read by position."""

from __future__ import annotations

import hashlib
import zlib

from cnncodes.errors import DecodeError
from cnncodes.images.archive_file import CHANGED, Archive
from cnncodes.images.stored_file import StoredFile
from cnncodes.images.tar_headers import BLOCK

__all__ = ["CUT_OFF", "TarMember"]

CUT_OFF = "the archive is cut off within it"


class TarMember(StoredFile):
    """A file in a tar archive.

    Parameters
    ----------
    archive : Archive
    offset, n_bytes : int
        Where it lies.
    header : int
        CRC-32 of the block before it, which has its name, size and time: if it differs, the archive has changed.
    """

    __slots__ = ("archive", "header", "n_bytes", "offset")

    def __init__(self, archive: Archive, offset: int, n_bytes: int, header: int) -> None:
        self.archive, self.offset, self.n_bytes, self.header = archive, offset, n_bytes, header

    def __reduce__(self) -> tuple[type, tuple[Archive, int, int, int]]:
        return type(self), (self.archive, self.offset, self.n_bytes, self.header)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.n_bytes

    @property
    def changed(self) -> int:
        """A number made of the header, and of size and time of the archive: tar has no checksums of content.

        It is −1 if a server does not say when the archive changed.
        """
        if self.archive.changed < 0:
            return -1
        stamp = f"{self.header} {self.archive.size} {self.archive.changed}".encode()
        return int.from_bytes(hashlib.sha256(stamp).digest()[:8], "big") >> 1

    @property
    def is_distant(self) -> bool:  # type: ignore[override]
        """Whether the archive is remote."""
        return self.archive.is_remote

    def read_bytes(self) -> bytes:
        """Return the file."""
        block = self.archive.read_at(self.offset - BLOCK, BLOCK + self.n_bytes)
        if zlib.crc32(block[:BLOCK]) != self.header:
            raise DecodeError(CHANGED)
        if len(block) < BLOCK + self.n_bytes:
            raise DecodeError(CUT_OFF)
        return block[BLOCK:]
