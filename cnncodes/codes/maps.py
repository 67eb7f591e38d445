"""The feature maps of a codes file, read row by row when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cnncodes.codes.layout import CHUNK_BYTES

__all__ = ["Maps"]


class Maps:
    """Feature maps of some rows of an open codes file; what `CodesFile.maps` returns.

    ``maps[i]`` is the map of one image, ``maps[batch]`` is an array with those of several: `batch` is an array of
    positions, a mask or a slice. ``maps[batch, views]`` takes one view of each image. Each read gives an array of its
    own, so memory holds what was asked for and no more.

    A row is compared with its checksum when it is first read; later reads of the row are not compared again. `check`
    compares all rows at once: call it to learn of damage before the work begins, and before maps are read after the
    file was closed, or in another process.

    Parameters
    ----------
    values : ndarray of float16, shape (n, C, H, W) or (n, n_views, C, H, W)
        Maps of all rows of the file, mapped to memory and not read yet.
    rows : ndarray of int, shape (k,)
        Rows of the file that these maps belong to.
    require_intact : callable
        Called with consecutive row numbers and their maps; raises `CodesFileError` if one does not match its checksum.

    Attributes
    ----------
    rows : ndarray of int, shape (k,)
        Row of the file for each map.
    shape : tuple of int
        ``(k, C, H, W)``, or ``(k, n_views, C, H, W)`` where the file has several views of each image; ``(k, tokens,
        D)`` for layers that give a sequence.
    dtype : dtype
        float16.
    row_bytes : int
        Size of what is kept of one image.

    Examples
    --------
    >>> with CodesFile.open("codes.h5") as file:  # doctest: +SKIP
    ...     maps = file.maps("layer3", file.rows("train"))
    ...     batch = torch.from_numpy(maps[order[:32]]).float()
    """

    def __init__(
        self, values: np.ndarray, rows: np.ndarray, require_intact: Callable[[np.ndarray, np.ndarray], None]
    ) -> None:
        self._values, self._require_intact = values, require_intact
        self._is_intact = np.zeros(len(values), bool)
        self.rows = rows
        self.shape = (len(rows), *values.shape[1:])
        self.dtype = values.dtype
        self.row_bytes = math.prod(values.shape[1:]) * values.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Maps(shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        rows = self.rows[first]
        self._check(np.unique(rows))
        values = self._values[(rows, *rest)]
        return values.copy() if rows.ndim == 0 else values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("maps are read from a file, which makes a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def check(self) -> None:
        """Compare all rows with their checksums, but for those that were compared already.

        Raises
        ------
        CodesFileError
            A row is pending, failed or damaged.
        """
        self._check(np.unique(self.rows))

    def _check(self, rows: np.ndarray) -> None:
        for block in _consecutive(rows[~self._is_intact[rows]], max(1, CHUNK_BYTES // self.row_bytes)):
            self._require_intact(block, self._values[block[0] : block[-1] + 1])
            self._is_intact[block] = True


def _consecutive(rows: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Yield runs of consecutive numbers, `most` at a time."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        for start in range(0, len(run), most):
            yield run[start : start + most]
