"""An archive as a file: opened, read at a position, and known again when it has changed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable
from typing import IO, Any, BinaryIO, NamedTuple

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images.files import reason_of, unreadable
from cnncodes.images.network import listing_errors
from cnncodes.images.remote import NO_PARTS, RemoteFile, open_remote, read_part
from cnncodes.images.stored_file import StoredFile
from cnncodes.urls import is_url, public_url

__all__ = ["CHANGED", "READ_ERRORS", "Archive", "Entry"]

CHANGED = "the archive has changed since it was listed; run the command again"
READ_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError)  # of files, and of what decompresses them
# How files begin; tar archives begin with a name, which may well be PK/1.jpg or BZhang/1.jpg
ZIP_HEADS = (b"PK\3\4", b"PK\5\6", b"PK\7\x08", b"PK00PK")  # with files, without, and as if it had several volumes
COMPRESSIONS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    **{b"BZh%d" % level: bz2.open for level in range(1, 10)},
    b"\xfd7zX": lzma.open,
}
HEAD_BYTES = 6


class Entry(NamedTuple):
    """What an archive has under a name.

    Attributes
    ----------
    name : str
        As the archive has it.
    file : StoredFile
        What is read, of files that can be.
    kind : {"file", "folder", "link"}
    target : str
        Name that a link leads to: relative to its own folder.
    failure : str
        Why a file cannot be read.
    content : bytes or None
        What a small file holds that may be a label.
    """

    name: str
    file: StoredFile
    kind: str = "file"
    target: str = ""
    failure: str = ""
    content: bytes | None = None


class Archive:
    """A file that holds other files. It can be pickled; every read opens the file anew, so that threads share nothing.

    Attributes
    ----------
    path : str
        Path or URL.
    size : int
        Bytes of the whole archive.
    changed : int
        Time of its last change, in nanoseconds; of a remote one, a number made of its etag, or −1.
    head : bytes
        How it begins, which tells what it is, whatever it is called.

    Raises
    ------
    ImagesError
        The file cannot be read, or is empty.
    """

    __slots__ = ("changed", "head", "path", "size")

    def __init__(self, path: str) -> None:
        self.path = path
        if self.is_remote:
            self._ask()
        else:
            if reason := "" if os.path.isfile(path) and os.access(path, os.R_OK) else unreadable(path):
                raise ImagesError(f"{path}: {reason}")
            try:
                with open(path, "rb") as stream:
                    self.head = stream.read(HEAD_BYTES)
                    self.size, self.changed = _stamp(stream)
            except OSError as error:
                raise ImagesError(f"{path}: {reason_of(error)}") from error
        if not self.size:
            raise ImagesError(f"{self}: the archive is empty (0 bytes); fetch it again")

    def __str__(self) -> str:
        return public_url(self.path) if self.is_remote else self.path

    def _ask(self) -> None:
        """Ask for size, change and the first bytes of a remote archive."""
        file = RemoteFile.of(self.path)
        file.fetch_stamp()
        self.size, self.changed = file.size, file.changed
        if not self.size:
            return
        with listing_errors(self.path):
            self.head = read_part(self.path, 0, HEAD_BYTES if self.size < 0 else min(HEAD_BYTES, self.size))
        if self.size < 0:
            raise ImagesError(f"{self}: {NO_PARTS}")

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells this archive, as it is now, from every other."""
        return self.path, self.size, self.changed

    @property
    def is_remote(self) -> bool:
        """Whether the path is a URL."""
        return is_url(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return str(self).rpartition("/")[2]

    @property
    def is_zip(self) -> bool:
        """Whether it is a ZIP archive."""
        return self.head.startswith(ZIP_HEADS)

    @property
    def is_compressed(self) -> bool:
        """Whether the archive is compressed as a whole, so that it can only be read from the beginning on."""
        return self._decompress is not None

    @property
    def _decompress(self) -> Callable[..., Any] | None:
        return next((opened for head, opened in COMPRESSIONS.items() if self.head.startswith(head)), None)

    def open(self) -> IO[bytes]:
        """Open the archive to be read from its beginning, decompressed if it is compressed as a whole."""
        if self._decompress is None:
            return self._open_remote() if self.is_remote else open(self.path, "rb")
        return self._decompress(self._open_remote() if self.is_remote else self.path)

    def _open_remote(self) -> BinaryIO:
        return open_remote(self.path, self.size)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return bytes from a position on: fewer than `n_bytes` where the archive ends.

        Raises
        ------
        DecodeError
            The archive cannot be read, or is written to meanwhile.
        """
        if self.is_remote:
            return read_part(self.path, offset, min(offset + n_bytes, self.size))
        try:
            with open(self.path, "rb") as stream:
                before = _stamp(stream)
                stream.seek(offset)
                data = stream.read(n_bytes)
                after = _stamp(stream)
        except OSError as error:
            raise DecodeError(f"the archive: {reason_of(error)}") from error
        if before != after:
            raise DecodeError(CHANGED)
        return data


def _stamp(stream: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_size, status.st_mtime_ns
