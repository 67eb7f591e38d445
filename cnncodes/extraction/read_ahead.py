"""Reads images that are far away before they are needed, so that nobody waits for one answer after the other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from cnncodes.images.image_set import ImageSet
from cnncodes.images.network import CONNECTIONS
from cnncodes.images.stored_file import StoredFile
from cnncodes.system.claims import SMALL_BYTES, Claim
from cnncodes.system.process import register_worker

__all__ = ["ReadAhead"]

MAX_BYTES_AHEAD = 256 << 20  # that wait to be taken


@dataclass(eq=False)
class _Reading:
    """A file that is being read, or was read."""

    n_bytes: int  # that it is thought to take, and then those that it takes
    begun: bool = False
    data: bytes | None = None
    error: Exception | None = None


class ReadAhead:
    """Threads that read files of a set in the order in which they are asked for. Use as a context manager.

    Only files that are `is_distant` are read ahead, and no large ones, for which memory is claimed first.

    Parameters
    ----------
    images : ImageSet
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self._lock = threading.Lock()
        self._may_begin, self._arrived = threading.Condition(self._lock), threading.Condition(self._lock)
        self._queue: deque[int] = deque()
        self._readings: dict[int, _Reading] = {}
        self._bytes_ahead = self._n_threads = 0
        self._is_closed = False

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Begin to read no more."""
        with self._lock:
            self._is_closed = True
            self._may_begin.notify_all()

    def ask(self, rows: Sequence[int]) -> None:
        """Have these rows read, after those that were asked for before."""
        with self._lock:
            for row in rows:
                source = self.images.sources[row]
                if isinstance(source, StoredFile) and source.is_distant and source.size <= SMALL_BYTES:
                    self._readings[row] = _Reading(max(0, source.size))
                    self._queue.append(row)
            while self._n_threads < min(CONNECTIONS, len(self._queue)):
                self._n_threads += 1
                thread = threading.Thread(target=self._run, name=f"cnncodes-reader-{self._n_threads}", daemon=True)
                register_worker(thread)
                thread.start()
            self._may_begin.notify_all()

    def read(self, row: int, claim: Claim | None = None) -> bytes:
        """Return the bytes of an image, as `ImageSet.read_bytes` does; one that nobody has begun to read is read now.

        Raises
        ------
        DecodeError
            The file cannot be read.
        """
        with self._lock:
            reading = self._readings.get(row)
            if reading is not None and reading.begun:
                while reading.data is None and reading.error is None:
                    self._arrived.wait()
            self._forget(row)
        if reading is None or not reading.begun:
            return self.images.read_bytes(row, claim)
        if reading.error is not None:
            raise reading.error
        assert reading.data is not None
        return reading.data

    def drop(self, row: int) -> None:
        """Read a row no more."""
        with self._lock:
            self._forget(row)

    def _forget(self, row: int) -> None:
        reading = self._readings.pop(row, None)
        if reading is not None and reading.begun:
            self._bytes_ahead -= reading.n_bytes
            self._may_begin.notify()

    def _run(self) -> None:
        while (begun := self._begin()) is not None:
            row, reading = begun
            data: bytes | None = None
            error: Exception | None = None
            try:
                data = self.images.read_bytes(row)
            except Exception as reason:  # whoever takes the row gets it
                error = reason
            with self._lock:
                if self._readings.get(row) is reading:
                    self._bytes_ahead += len(data or b"") - reading.n_bytes
                    reading.n_bytes = len(data or b"")
                reading.data, reading.error = data, error
                self._arrived.notify_all()

    def _begin(self) -> tuple[int, _Reading] | None:
        """Return the next row to read, when there is room for it; None at the end."""
        with self._lock:
            while not self._is_closed:
                if self._queue:
                    row = self._queue[0]
                    reading = self._readings.get(row)
                    if reading is None or reading.begun:  # somebody could not wait
                        self._queue.popleft()
                        continue
                    if not self._bytes_ahead or self._bytes_ahead + reading.n_bytes <= MAX_BYTES_AHEAD:
                        self._queue.popleft()
                        reading.begun = True
                        self._bytes_ahead += reading.n_bytes
                        return row, reading
                self._may_begin.wait()
            return None
