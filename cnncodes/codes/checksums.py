"""The checksums of the rows of a codes file: how they are computed, and which rows match theirs."""

from __future__ import annotations

import zlib

import numpy as np

from cnncodes.codes.columns import Columns
from cnncodes.codes.layout import FAILED, OK

__all__ = ["Checksums", "checksum"]

ROWS_AT_A_TIME = 256  # whose records are read together


def checksum(
    fingerprint: bytes, row: int, state: int, sha256: np.ndarray, error: bytes, codes: np.ndarray
) -> np.uint32:
    """CRC-32 of a row of one layer; 0 is kept for rows that were never written."""
    seed = fingerprint + row.to_bytes(8, "little") + bytes([state]) + sha256.tobytes() + error
    return np.uint32(zlib.crc32(codes.data, zlib.crc32(seed)) or 1)


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
        for i in np.flatnonzero(matches & (sums[:, column] != before[rows])):
            error = bytes(errors[i]) if state[i] == FAILED else b""
            expected = checksum(self._fingerprint, int(rows[i]), int(state[i]), digests[i], error, codes[i])
            matches[i] = sums[i, column] == expected
        before[rows[matches]] = sums[matches, column]
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
