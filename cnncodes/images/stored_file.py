"""Image files that are no paths of this machine: in an object store, on the web, in an archive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeGuard

__all__ = ["StoredFile", "is_file", "reading_threads"]

THREADS_FOR_DISTANT_FILES = 64  # most of them wait


class StoredFile(ABC):
    """An image file that is read whole, from wherever it lies. It can be pickled, and read by several threads."""

    __slots__ = ()

    is_distant = False  # whether reading waits for a network, so that several files should be read at a time

    @abstractmethod
    def read_bytes(self) -> bytes:
        """Return the whole file.

        Raises
        ------
        DecodeError
            It cannot be read; the message says why, in words for the person who has the file.
        """

    def reach(self) -> None:  # noqa: B027 most files need nothing
        """Do what must be done before the file can be read, and may take long: no limit of time counts meanwhile."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of bytes; −1 if it is not known."""

    @property
    @abstractmethod
    def changed(self) -> int:
        """A number below 2**63 that differs when the file has changed, as a time or an etag; −1 if there is none."""


def reading_threads(sources: Iterable[Any]) -> int | None:
    """Return how many files are read at a time where each is read by a thread; None for as many as usual."""
    return THREADS_FOR_DISTANT_FILES if any(isinstance(one, StoredFile) and one.is_distant for one in sources) else None


def is_file(source: Any) -> TypeGuard[Path | StoredFile]:
    """Whether a source of an image is a file: a path, or a file that lies elsewhere."""
    return isinstance(source, (Path, StoredFile))
