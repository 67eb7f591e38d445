"""Lets threads that need much memory wait for each other, and refuses what does not fit into what is left of it."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from cnncodes.system.memory import available_memory

__all__ = ["SMALL_BYTES", "Claim"]

SMALL_BYTES = 64 << 20  # what needs less is not counted
SPARE_BYTES = 64 << 20  # left to all that is not counted
TIGHT = 0.25  # part of what is left
PATIENCE_SECONDS = 2.0  # for memory that is about to be given back, before a claim is refused
POLL_SECONDS = 0.1

_turn = threading.Lock()  # held by the claim that is next, so that small ones do not always pass a large one
_changed = threading.Condition()
_claims: set[Claim] = set()


class Claim:
    """What one thread takes of the memory at a time. Use as a context manager, at whose end all is given back.

    A claim may grow, as more becomes known of what it is for, until it is settled. Only one claim at a time is large
    and not settled: two would wait for each other.

    Attributes
    ----------
    n_bytes : int
    is_waiting : bool
        Whether its thread waits for other claims.
    admitted : float
        When it last had to wait no more, in monotonic seconds; 0 if it never waited.
    is_tight : bool
        Whether it is a large part of the memory that was left, or had to be alone.
    """

    def __init__(self) -> None:
        self.n_bytes, self.is_waiting, self.admitted, self.is_tight = 0, False, 0.0, False
        self._has_turn = False

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, n_bytes: int, *, alone: bool = False) -> None:
        """Claim so many bytes more; wait for other claims where both do not fit.

        Parameters
        ----------
        n_bytes : int
        alone : bool, default=False
            Wait for all other claims, whatever they are.

        Raises
        ------
        MemoryError
            There is not so much memory; the message gives both figures.
        """
        if self.n_bytes + n_bytes <= SMALL_BYTES and not alone:
            self.n_bytes += n_bytes
            return
        self.is_waiting = True
        try:
            if not self._has_turn:
                _turn.acquire()
                self._has_turn = True
            with _changed:
                self._wait_for(n_bytes, alone)
                self.n_bytes += n_bytes
                _claims.add(self)
        finally:
            self.admitted, self.is_waiting = time.monotonic(), False

    def _wait_for(self, n_bytes: int, alone: bool) -> None:
        patient_until = time.monotonic() + PATIENCE_SECONDS
        while True:
            left = available_memory() - SPARE_BYTES
            others = sum(one.n_bytes for one in _claims - {self})  # some of it is missing from what is left already
            if n_bytes + others <= left and not (alone and others):
                self.is_tight |= alone or n_bytes > TIGHT * left
                return
            if others:
                patient_until = time.monotonic() + PATIENCE_SECONDS
            elif time.monotonic() > patient_until:
                raise MemoryError(f"it takes {_size(n_bytes)}, and {_size(max(0, left))} are left")
            _release_freed_memory()
            _changed.wait(POLL_SECONDS)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Say that the thread waits, for something other than memory, so that the time does not count as its own."""
        self.is_waiting = True
        try:
            yield
        finally:
            self.admitted, self.is_waiting = time.monotonic(), False

    def settle(self) -> None:
        """Claim no more, so that it is the turn of the next one."""
        if self._has_turn:
            self._has_turn = False
            _turn.release()

    def close(self) -> None:
        """Give all back. Another thread may do so, where the one of the claim hangs."""
        self.settle()
        with _changed:
            _claims.discard(self)
            _changed.notify()
        self.n_bytes = 0


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB"


def _release_freed_memory() -> None:
    """Have glibc give back to the system what it keeps of freed memory."""
    if os.name == "posix" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
