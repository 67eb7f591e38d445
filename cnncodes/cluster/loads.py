"""Makes of a unit what is sent to a worker: paths where it can read them, otherwise bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.cluster.units import Unit
from cnncodes.cluster.worker import Load, Sample, SentBytes
from cnncodes.errors import DecodeError
from cnncodes.images.image_set import ImageSet
from cnncodes.images.stored_file import StoredFile, is_file

__all__ = ["Loader"]

N_SAMPLES = 3
MAX_TRIED = 20  # files that are read to find samples
UNIT_BYTES = 64 << 20
READERS = 16  # files that are read at the same time, as the answers of a store may take long


class Loader:
    """The images of an extraction, as they are sent.

    Parameters
    ----------
    images : ImageSet
    rows : ndarray of int
        Those that are to be computed.
    row_bytes : int
        What the codes and maps of an image take on their way back.
    """

    def __init__(self, images: ImageSet, rows: np.ndarray, row_bytes: int) -> None:
        self.images, self.row_bytes = images, row_bytes
        self.samples = list(self._samples(rows))
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="cnncodes-read")

    def _samples(self, rows: np.ndarray) -> Iterator[Sample]:
        """Yield a few files from all over the set that can be read here."""
        count = 0
        spread = np.unique(np.linspace(0, len(rows) - 1, min(MAX_TRIED, len(rows))).astype(int))
        for row in np.random.default_rng(0).permutation(rows[spread]).tolist():
            if count < N_SAMPLES and is_file(self.images.sources[row]):
                try:
                    content = self.images.read_bytes(row)
                except DecodeError:
                    continue
                yield Sample(_anywhere(self.images.sources[row]), hashlib.sha256(content).digest())
                count += 1

    def limit(self, rows: np.ndarray, by_bytes: bool) -> int:
        """Return how many of the first of these rows may be sent together, so that memory does not grow.

        Parameters
        ----------
        rows : ndarray of int
        by_bytes : bool
            Whether the bytes of files are sent.
        """
        room, count = UNIT_BYTES, 0
        for row in rows.tolist():
            source = self.images.sources[row]
            room -= max(self.row_bytes, _bytes_of(source) if by_bytes or not is_file(source) else 0)
            if room < 0:
                break
            count += 1
        return max(1, count)

    def load(self, unit: Unit, reads: bool, suspects: Iterable[bytes]) -> Load:
        """Return the images of a unit.

        Parameters
        ----------
        unit : Unit
        reads : bool
            Whether the worker can read the files.
        suspects : iterable of bytes
            Digests of images that may have killed workers.
        """
        rows, failures = unit.rows.tolist(), dict[str, str]()
        ids = [self.images.ids[row] for row in rows]
        sources: list[Any] = [self.images.sources[row] for row in rows]
        if reads and not unit.by_bytes:
            sources = [_anywhere(source) for source in sources]
            sources = [os.fspath(one) if isinstance(one, Path) else one for one in sources]  # pickled ten times as fast
        else:
            for at, content in enumerate(self._pool.map(self._read, rows)):
                if isinstance(content, str):
                    failures[ids[at]] = content
                elif content is not None:
                    sources[at] = SentBytes(content)
        failures |= {name: self.images.failures[name] for name in ids if name in self.images.failures}
        return Load(unit.rows, ids, sources, failures, frozenset(suspects), unit.apart)

    def unread(self, failures: Mapping[int, tuple[str, np.ndarray]]) -> set[int]:
        """Return the rows of files that a worker could not read: they have no digest, and may be readable here."""
        ids, sources, known = self.images.ids, self.images.sources, self.images.failures
        rows = [row for row, (_, digest) in failures.items() if not digest.any()]
        return {row for row in rows if is_file(sources[row]) and ids[row] not in known}

    def close(self) -> None:
        """End the threads that read."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, row: int) -> bytes | str | None:
        """Return the bytes of a file, or why it cannot be read; None for what is no file."""
        if not is_file(self.images.sources[row]):
            return None
        try:
            return self.images.read_bytes(row)
        except DecodeError as error:
            return str(error)


def _anywhere(source: Any) -> Any:
    """Return a path that does not depend on the working folder."""
    return Path(os.path.abspath(source)) if isinstance(source, Path) and not source.is_absolute() else source


def _bytes_of(source: Any) -> int:
    """Return the bytes of a file or of pixels, as far as they are known without reading it."""
    if isinstance(source, Path):
        try:
            return source.stat().st_size
        except OSError:
            return 0
    if isinstance(source, StoredFile):
        return max(0, source.size)
    if isinstance(source, np.ndarray):
        return source.nbytes
    width, height = getattr(source, "size", (0, 0))
    return 3 * width * height
