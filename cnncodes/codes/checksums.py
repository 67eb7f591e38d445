"""The checksums of the rows of a codes file: how they are computed, and which rows match theirs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from itertools import compress

import numpy as np

from cnncodes.codes.columns import Columns, StoredArray, bytes_of_rows
from cnncodes.codes.layout import CHUNK_BYTES, FAILED, OK
from cnncodes.system.progress import Progress

__all__ = ["Checksums", "checksums", "seeds"]

ROWS_AT_A_TIME = 256  # whose records are read together
NUMBER_BYTES = 8  # of a row number in what a checksum begins with


def seeds(
    fingerprint: bytes, rows: np.ndarray, states: int | np.ndarray, sha256: np.ndarray, errors: Sequence[bytes]
) -> list[int]:
    """CRC-32 of what the checksums of a row begin with, the same for every layer.

    Parameters
    ----------
    fingerprint : bytes
        Fingerprint of the settings that the codes were made with.
    rows : ndarray of int, shape (k,)
        Row numbers.
    states : int, or ndarray of int of shape (k,)
        State of all rows, or of each.
    sha256 : ndarray of uint8, shape (k, 32)
        Digests of the images.
    errors : sequence of bytes
        Why each image failed, empty where it did not.
    """
    heads = np.empty((len(rows), NUMBER_BYTES + 1 + sha256.shape[1]), np.uint8)
    heads[:, :NUMBER_BYTES] = np.ascontiguousarray(rows, "<i8")[:, None].view(np.uint8)
    heads[:, NUMBER_BYTES] = states
    heads[:, NUMBER_BYTES + 1 :] = sha256
    start = zlib.crc32(fingerprint)
    return [
        zlib.crc32(error, zlib.crc32(head, start)) for head, error in zip(bytes_of_rows(heads), errors, strict=True)
    ]


def checksums(seeds: Iterable[int], rows: Iterable[memoryview]) -> np.ndarray:
    """CRC-32 of rows of one layer; 0 is kept for rows that were never written.

    Parameters
    ----------
    seeds : iterable of int
        One for each row, made by `seeds`.
    rows : iterable of memoryview
        Codes of each row as they are stored.

    Returns
    -------
    ndarray of uint32, shape (k,)
    """
    return np.array([zlib.crc32(row, seed) or 1 for row, seed in zip(rows, seeds, strict=True)], np.uint32)


class Checksums:
    """Compares rows with the checksums that an open codes file holds of them.

    Parameters
    ----------
    columns : Columns
        The tables of the file.
    fingerprint : bytes
        Fingerprint of the settings that the codes were made with.
    remember : bool, default=False
        Compare a row once: while its stored checksum stays the same, it counts as matching.
    """

    def __init__(self, columns: Columns, fingerprint: bytes, *, remember: bool = False) -> None:
        self._columns, self._fingerprint = columns, fingerprint
        self._matched: dict[int, np.ndarray] | None = {} if remember else None

    def match(self, column: int, rows: np.ndarray, codes: np.ndarray, *, states: tuple[int, ...] = (OK,)) -> np.ndarray:
        """Return which rows match their checksums.

        Parameters
        ----------
        column : int
            Column of the layer in the table of checksums.
        rows : ndarray of int, shape (k,)
            Row numbers, ascending.
        codes : ndarray, shape (k, n_features) or (k, n_views, n_features)
            Codes of these rows as they are stored.
        states : tuple of int, default=(OK,)
            A row in another state does not match.

        Returns
        -------
        ndarray of bool, shape (k,)
        """
        before = np.zeros(len(self._columns["images/crc32"]), np.uint32)  # 0 is the checksum of no row
        if self._matched is not None:
            before = self._matched.setdefault(column, before)
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        columns = (self._columns[f"images/{name}"][span] for name in ("state", "sha256", "error", "crc32"))
        state, digests, errors, sums = (values[rows - rows[0]] for values in columns)
        matches = np.isin(state, states) & (sums[:, column] != 0) & ((state == FAILED) | (errors == b""))
        unseen = matches & (sums[:, column] != before[rows])
        if unseen.any():
            of_rows = seeds(self._fingerprint, rows[unseen], state[unseen], digests[unseen], errors[unseen].tolist())
            expected = checksums(of_rows, compress(bytes_of_rows(codes), unseen))
            matches[unseen] = sums[unseen, column] == expected
        before[rows[matches]] = sums[matches, column]
        return matches

    def match_all(self, tables: Sequence[StoredArray], progress: Progress | None = None) -> np.ndarray:
        """Compare every row of some tables that was written, as codes or as a failure, with its checksum.

        Parameters
        ----------
        tables : sequence of StoredArray
            One for each column of the table of checksums.
        progress : callable, optional
            Called with (done, total, 0); the row of each table counts.

        Returns
        -------
        ndarray of bool, shape (n, n_tables)
        """
        written = self._columns["images/crc32"][:] != 0
        matches, done = np.zeros_like(written), 0
        for column, table in enumerate(tables):
            rows = np.flatnonzero(written[:, column])
            for at, block in table.pieces(rows, CHUNK_BYTES):
                matches[rows[at], column] = self.match(column, rows[at], block, states=(OK, FAILED))
                done += len(block)
                if progress is not None:
                    progress(done, int(written.sum()), 0)
        return matches

    def match_failures(self, rows: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return which records of failed images match their checksums; their codes, which are zeros, are not read.

        Parameters
        ----------
        rows : ndarray of int, shape (k,)
            Row numbers, ascending.
        shape, dtype
            Those of a code in the first column that the table of checksums covers.

        Returns
        -------
        ndarray of bool, shape (k,)
        """
        matches, zeros = np.zeros(len(rows), bool), np.zeros(shape, dtype)
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows // ROWS_AT_A_TIME)) + 1):
            if len(part):
                codes = np.broadcast_to(zeros, (len(part), *shape))
                matches[part] = self.match(0, rows[part], codes, states=(FAILED,))
        return matches
