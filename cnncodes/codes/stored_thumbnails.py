"""The small pictures of an open codes file: read, and compared with their checksums, some at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnncodes.codes.columns import StoredArray
from cnncodes.codes.layout import CHUNK_BYTES
from cnncodes.codes.thumbnails import blank, matching, present

__all__ = ["StoredThumbnails"]


class StoredThumbnails:
    """The small pictures of an open codes file.

    Parameters
    ----------
    records : StoredArray of THUMBNAIL, shape (n,)
    sha256 : StoredArray of uint8, shape (n, 32)
        Digests of the images.
    """

    def __init__(self, records: StoredArray, sha256: StoredArray) -> None:
        self._records, self._sha256 = records, sha256

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the records of rows, shape (k,); those without an intact picture are blank."""
        records = blank(len(rows))
        for at, block, is_intact in self._pieces(rows):
            records[at[is_intact]] = block[is_intact]
        return records

    def amiss(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows whose picture is missing or damaged, and those of them whose picture is damaged."""
        intact, written = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        for at, block, is_intact in self._pieces(rows):
            intact[at] = is_intact & present(block)
            written[at] = block.view(np.uint8).reshape(len(block), -1).any(axis=1)  # its checksum may be lost
        return rows[~intact], rows[~intact & written]

    def _pieces(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (positions in `rows`, their records, which of those are intact), some at a time."""
        for at, block in self._records.pieces(rows, CHUNK_BYTES):
            first, last = int(rows[at[0]]), int(rows[at[-1]])  # ascending
            digests = self._sha256[first : last + 1][rows[at] - first]
            yield at, block, matching(block, digests)
