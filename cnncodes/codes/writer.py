"""Fills a codes file so that it survives a kill at any moment.

The whole layout is written, synced and renamed into place before the first row. After that only bytes inside
contiguous datasets change: a batch's rows first, then their state, then one checksum per row and layer. The checksum is
seeded with the row number, the state, the image's digest and the fingerprint of the settings; a row counts only
when it matches, so a torn, lost or foreign row is a pending row and never a wrong one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from cnncodes.codes.checksums import checksums, seeds
from cnncodes.codes.columns import bytes_of_rows
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ERROR_BYTES, FAILED, OK, THUMBNAILS, ImageTable, allocate, lay_out
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.structure import extents, file_options, seal_structure
from cnncodes.codes.thumbnails import blank, seal
from cnncodes.errors import CodesFileError, CodesRangeError, first_line, parameter
from cnncodes.system.files import replacing
from cnncodes.system.locks import writer_lock

__all__ = ["CodesWriter"]


class CodesWriter(CodesFile):
    """A codes file whose rows are being filled; a file has one writer at a time.

    Raises
    ------
    CodesFileError
        Another process is writing to the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lock = contextlib.ExitStack()
        if Path(path).is_file():  # if it is not, opening it says what is wrong
            self._lock.enter_context(writer_lock(Path(path)))
        try:
            super().__init__(path, writable=True)
        except BaseException:
            self._lock.close()
            raise

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        images: ImageTable,
        provenance: Provenance,
        *,
        thumbnails: bool = False,
        fill: Callable[[CodesWriter], None] | None = None,
    ) -> None:
        """Lay the file out completely: it is written beside `path`, synced, and then renamed to `path`.

        Parameters
        ----------
        images : ImageTable
            The rows, in their final order.
        provenance : Provenance
            How the codes are made; it says which layers there are, how long their codes are, and in what type they
            are stored.
        thumbnails : bool, default=False
            Whether there is a place for a small picture of each image.
        fill : callable, optional
            Called with a writer on the unfinished file before it is renamed, to copy rows that exist already.

        Raises
        ------
        CodesFileError
            The folder cannot be written, or has no room for the whole file; or another process is writing to the file.
        """
        target = Path(path)
        try:
            with replacing(target, error_type=CodesFileError, one_writer=True) as partial:
                options = file_options(provenance)
                with h5py.File(partial, "w", libver="earliest", locking=False, **options) as h5:  # it is locked already
                    content = lay_out(h5, images, provenance, thumbnails=thumbnails)
                    places = extents(h5)
                allocate(partial)
                seal_structure(partial, places, content)
                with cls(partial) as writer:
                    if fill is not None:
                        fill(writer)
                    writer.sync()
        except RuntimeError as error:  # h5py raises it if closing the file fails
            raise CodesFileError(f"{target}: cannot be written ({first_line(error)}); make room on the disk") from error

    def close(self) -> None:
        """Close the file and let another writer in."""
        super().close()
        self._lock.close()

    def __enter__(self) -> CodesWriter:
        return self

    def todo(self, *, retry_failed: bool = False) -> tuple[np.ndarray, list[str]]:
        """Return the rows that are yet to be computed, and the keys (stored layers, and maps) that any of them lacks.

        Damaged rows count, and so do failed rows whose bytes could not be read; with `retry_failed`, all of them.
        """
        good = self.good()
        good[self.failed & (retry_failed | ~self.sha256.any(axis=1))] = False
        rows = np.flatnonzero(~good.all(axis=1))
        return rows, [name for name, done in zip(self.stored_keys, good.T, strict=True) if not done.all()]

    def write(self, rows: np.ndarray, codes: Mapping[str, np.ndarray], sha256: np.ndarray) -> None:
        """Write rows that were computed.

        Parameters
        ----------
        rows : ndarray of int, shape (k,)
        codes : mapping of str to ndarray, shape (k, n_features) or (k, n_views, n_features)
            Codes by stored layer, and maps by their keys (``maps/layer3``) in the shape of the file; other layers stay
            as they are.
        sha256 : ndarray of uint8, shape (k, 32)

        Raises
        ------
        CodesRangeError
            A code is too large for float16, the type of the file; none of the rows was written.
        """
        for name, block in codes.items():
            limit = np.finfo(self._array(name).place.dtype).max
            if limit < np.finfo(block.dtype).max and np.abs(block).max(initial=0) > limit:
                wider = parameter("dtype", "float32", of="extract")
                raise CodesRangeError(f"{self.path}: codes of {name} exceed {limit:g}; use {wider}")
        self._put(rows, OK, codes, sha256, [b""] * len(rows))

    def write_thumbnails(self, rows: np.ndarray, thumbnails: np.ndarray, sha256: np.ndarray) -> None:
        """Write the small pictures of images.

        Parameters
        ----------
        rows : ndarray of int, shape (k,)
            Ascending.
        thumbnails : ndarray of THUMBNAIL, shape (k,)
            As `pack` makes them.
        sha256 : ndarray of uint8, shape (k, 32)
            Digests of the images; they are not written.
        """
        sealed = seal(thumbnails, sha256)
        for span, part in _runs(rows):
            self._columns[THUMBNAILS][span] = sealed[part]

    def fail(self, row: int, reason: str, sha256: np.ndarray) -> None:
        """Record that the image of `row` cannot be used, and why (cut to 160 bytes)."""
        zeros = {key: np.zeros((1, *self._array(key).place.shape[1:]), np.float16) for key in self.stored_keys}
        text = " ".join(reason.split()).encode("utf-8", "replace")[:ERROR_BYTES].decode("utf-8", "ignore").encode()
        self._put(np.array([row]), FAILED, zeros, np.asarray(sha256)[None], [text])
        if self.has_thumbnails:
            self._columns[THUMBNAILS][row : row + 1] = blank(1)

    def _put(
        self, rows: np.ndarray, state: int, codes: Mapping[str, np.ndarray], sha256: np.ndarray, errors: list[bytes]
    ) -> None:
        images = {name: self._columns[f"images/{name}"] for name in ("sha256", "error", "state", "crc32")}
        blocks = {name: np.ascontiguousarray(block, self._array(name).place.dtype) for name, block in codes.items()}
        for span, part in _runs(rows):
            for name, block in blocks.items():
                self._array(name)[span] = block[part]
            images["sha256"][span] = sha256[part]
            images["error"][span] = errors[part]
            images["state"][span] = np.full(span.stop - span.start, state, np.uint8)
            sums = images["crc32"][span]
            of_rows = seeds(self.fingerprint, rows[part], state, sha256[part], errors[part])
            for name, block in blocks.items():
                sums[:, self.stored_keys.index(name)] = checksums(of_rows, bytes_of_rows(block[part]))
            images["crc32"][span] = sums

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        self._columns.sync()


def _runs(rows: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Yield each run of consecutive numbers in `rows`: the run itself, and its positions."""
    for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        if len(run):
            yield slice(int(rows[run[0]]), int(rows[run[-1]]) + 1), slice(int(run[0]), int(run[-1]) + 1)
