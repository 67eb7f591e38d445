"""Tables of numbers that lie at fixed places in a file: read and written as plain bytes, a slice of rows at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import mmap
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

__all__ = ["Columns", "Place", "StoredArray", "bytes_of_rows", "digest_of", "slice_of"]


@dataclass(frozen=True)
class Place:
    """Where a table lies: byte offset, shape and dtype, rows one after the other."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        """Size of a row in bytes."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.shape[0] * self.row_bytes

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.bytes


@contextlib.contextmanager
def _named(file: IO[bytes]) -> Iterator[None]:
    """Name the file in an `OSError`: reads and writes of an open file leave its name out."""
    try:
        yield
    except OSError as error:
        error.filename = file.name
        raise


class Columns:
    """The open file, and its tables by name.

    Reads and writes go straight to the operating system, so an error such as a full disk is raised by the very call
    that meets it.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.file = path.open("r+b" if writable else "rb", buffering=0)
        self._tables: dict[str, StoredArray] = {}
        self._lock = threading.Lock()  # guards the file's position

    def add(self, name: str, place: Place, sha256: str | None = None) -> None:
        """Name a table; one that never changes may have a digest, in hexadecimal digits."""
        self._tables[name] = StoredArray(self, place, sha256)

    def __getitem__(self, name: str) -> StoredArray:
        return self._tables[name]

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def read(self, offset: int, size: int) -> bytearray:
        """Return `size` bytes.

        Raises
        ------
        OSError
            They cannot be read, or the file has become shorter.
        """
        data = bytearray(size)
        view, done = memoryview(data), 0
        with self._lock, _named(self.file):
            self.file.seek(offset)
            while done < size:
                got = self.file.readinto(view[done:])
                if not got:
                    raise OSError(errno.EIO, f"the file ends at byte {offset + done}, before what it should hold")
                done += got
        return data

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes."""
        with self._lock, _named(self.file):
            self.file.seek(offset)
            while len(data):
                data = data[self.file.write(data) :]

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        with _named(self.file):
            getattr(os, "fdatasync", os.fsync)(self.file.fileno())

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class StoredArray:
    """One table: ``column[rows]`` and ``column[rows] = values`` for a slice of rows without a step."""

    def __init__(self, columns: Columns, place: Place, sha256: str | None = None) -> None:
        self._columns, self.place, self.sha256 = columns, place, sha256

    def __len__(self) -> int:
        return self.place.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        place = self.place
        data = self._columns.read(place.offset + start * place.row_bytes, (stop - start) * place.row_bytes)
        return np.frombuffer(data, place.dtype).reshape(stop - start, *place.shape[1:])

    def whole(self) -> tuple[np.ndarray, bool]:
        """Return all rows, and whether they match the digest; without one they do."""
        values = self[:]
        return values, self.sha256 in (None, digest_of(values))

    def pieces(self, rows: np.ndarray, max_bytes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions in `rows`, their values), reading at most `max_bytes` of the file at a time."""
        step = max(1, max_bytes // self.place.row_bytes)
        order = np.argsort(rows, kind="stable")
        ascending, start = rows[order], 0
        while start < len(order):
            first = int(ascending[start])
            stop = int(np.searchsorted(ascending, first + step))
            wanted = ascending[start:stop]
            yield order[start:stop], self[first : int(wanted[-1]) + 1][slice_of(wanted - first)]
            start = stop

    def mapped(self) -> np.ndarray:
        """Return the whole table, mapped to memory: a row is read when it is used, also after the file was closed."""
        place = self.place
        size = place.end - place.offset
        if not size:
            return np.empty(place.shape, place.dtype)
        skipped = place.offset % mmap.ALLOCATIONGRANULARITY
        file = self._columns.file.fileno()
        pages = mmap.mmap(file, size + skipped, access=mmap.ACCESS_READ, offset=place.offset - skipped)
        return np.frombuffer(pages, place.dtype, offset=skipped).reshape(place.shape)

    def __setitem__(self, rows: slice, values: Any) -> None:
        start, stop, _ = rows.indices(len(self))
        place = self.place
        block = np.ascontiguousarray(values, place.dtype)
        if block.shape != (stop - start, *place.shape[1:]):
            raise ValueError(f"values of shape {block.shape} for {stop - start} rows of {place.shape[1:]}")
        self._columns.write(place.offset + start * place.row_bytes, block.reshape(-1).view(np.uint8).data)


def digest_of(values: np.ndarray) -> str:
    """Return the SHA-256 of an array as it is stored, in hexadecimal digits."""
    return hashlib.sha256(values.reshape(-1).view(np.uint8).data).hexdigest()


def bytes_of_rows(values: np.ndarray) -> Iterator[memoryview]:
    """Yield the bytes of each row of an array as they are stored."""
    size = math.prod(values.shape[1:]) * values.itemsize
    stored = values.reshape(-1).view(np.uint8).data
    return (stored[start : start + size] for start in range(0, len(values) * size, size))


def slice_of(numbers: np.ndarray) -> np.ndarray | slice:
    """Return consecutive numbers as a slice, which selects rows without a copy; return other numbers as they are."""
    return slice(int(numbers[0]), int(numbers[-1]) + 1) if (np.diff(numbers) == 1).all() else numbers
