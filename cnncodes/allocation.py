"""Memory that is freed stays with the process while a network runs."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

__all__ = ["freed_memory_kept"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
KEPT = 1 << 30
USUAL = 32 << 20  # up to there glibc would raise the second by itself, and the first to twice that


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep glibc from giving freed memory back to the system at once; nothing happens with other C libraries.

    The maps of a batch are tens of megabytes, allocated and freed with each layer. Pages that are new each time must be
    zeroed by the system first: that took a quarter of the time of mobilenet_v2 in two threads, and half of it in one.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    _set(libc, KEPT, KEPT)
    try:
        yield
    finally:
        _set(libc, USUAL, 2 * USUAL)
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, mapped: int, trimmed: int) -> None:
    libc.mallopt(M_MMAP_THRESHOLD, mapped)
    libc.mallopt(M_TRIM_THRESHOLD, trimmed)
