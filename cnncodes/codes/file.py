"""The codes file: an HDF5 file of codes, ids, labels and provenance, open for reading.

What is in it was written by `writer`; a row counts only when it matches its checksum.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cnncodes.codes.checksums import Checksums
from cnncodes.codes.columns import slice_of
from cnncodes.codes.image_rows import ImageRows
from cnncodes.codes.layout import CHUNK_BYTES, PENDING, THUMBNAILS, open_columns
from cnncodes.codes.maps import Maps
from cnncodes.codes.stored_thumbnails import StoredThumbnails
from cnncodes.codes.summary import summarise, summary_html
from cnncodes.codes.thumbnails import blank
from cnncodes.errors import CodesFileError, parameter
from cnncodes.system.places import refuse_url
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import as_names, map_key

__all__ = ["CodesFile"]


class CodesFile(ImageRows):
    """A codes file, open for reading. Use as a context manager.

    Reading takes no lock: the structure never changes after creation and each row carries its checksum, so a file
    can be looked at while it is being filled.

    Parameters
    ----------
    path : path
        The codes file.
    writable : bool, default=False
        Open it for `CodesWriter`, which fills its rows.

    Attributes
    ----------
    path : Path
        The codes file.
    provenance : Provenance
        How the codes were made: backbone, digest of the weights, preprocessing, layers, pooling, precision, versions.
    n : int
        Number of images (rows).
    views : tuple of int
        ``(n_views,)`` where the codes of several views of each image are kept, else empty.
    layers : list of str
        Names that `codes` takes.
    map_layers : list of str
        Names that `maps` takes: the layers whose feature maps are kept.
    has_thumbnails : bool
        Whether the file has a place for a small picture of each image.

    Raises
    ------
    CodesFileError
        There is no such file, it is no codes file, or its format is newer than this version.

    Examples
    --------
    >>> with CodesFile.open("codes.h5") as file:  # doctest: +SKIP
    ...     X = file.codes("penultimate", file.rows())
    """

    def __init__(self, path: str | os.PathLike[str], *, writable: bool = False) -> None:
        refuse_url(path, "a codes file", error_type=CodesFileError)
        columns, provenance, classes = open_columns(Path(path), writable=writable)
        super().__init__(Path(path), columns, provenance, classes, remember=not writable)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> CodesFile:
        """Open `path` for reading.

        Parameters
        ----------
        path : path
            The codes file.

        Returns
        -------
        CodesFile
            Close it after use, or use it in a ``with`` statement.

        Raises
        ------
        CodesFileError
            There is no such file, it is no codes file, or its format is newer than this version.
        """
        return cls(path)

    def __enter__(self) -> CodesFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        self._columns.close()

    def __repr__(self) -> str:
        backbone = self.provenance.backbone
        return f"CodesFile({str(self.path)!r}, n={self.n}, backbone={backbone!r}, layers={self.layers})"

    def _repr_html_(self) -> str:
        return summary_html(self.info())

    @property
    def dtype(self) -> dict[str, str]:
        """Storage type of the codes of each layer."""
        return {name: str(self._codes_of(name).place.dtype) for name in self.layers}

    @property
    def pooling(self) -> dict[str, str]:
        """Pooling of each layer."""
        return {name: layer.pooling for name, layer in self.provenance.layers.items()}

    def info(self) -> dict[str, Any]:
        """Return what the file holds and where it came from, ready for JSON."""
        return summarise(self)

    def n_features(self, layer: str) -> int:
        """Return the code length of a layer.

        Parameters
        ----------
        layer : str
            One of `layers`.

        Returns
        -------
        int
            Length of the code of one view of an image.

        Raises
        ------
        CodesFileError
            There is no such layer.
        """
        return self._codes_of(layer).place.shape[-1]

    def codes(self, layers: str | Sequence[str], rows: np.ndarray | None = None, *, check: bool = True) -> np.ndarray:
        """Read codes, each row checked against its checksum when it is first read.

        Parameters
        ----------
        layers : str or sequence of str
            Several layers are concatenated in the order given.
        rows : ndarray of int, shape (k,), optional
            Row numbers; all that are there by default.
        check : bool, default=True
            Compare checksums; False spares the time for rows that were read before.

        Returns
        -------
        ndarray of float32, shape (k, n_features)
            Or (k, n_views, n_features) where the file has several views of each image.

        Raises
        ------
        CodesFileError
            No such layer; or a row is pending, failed or damaged.
        """
        names = as_names(layers)
        rows = self.rows(labelled=False) if rows is None else np.asarray(rows)
        out = np.empty((len(rows), *self.views, sum(map(self.n_features, names))), np.float32)
        self._read_into(out, np.arange(len(rows)), names, rows, check=check)
        return out

    def _read_into(
        self, out: np.ndarray, places: np.ndarray, names: Sequence[str], rows: np.ndarray, *, check: bool
    ) -> None:
        """Read the codes of rows into `out`, at these places."""
        start = 0
        for name in names:
            stop = start + self.n_features(name)
            for at, block in self._codes_of(name).pieces(rows, CHUNK_BYTES):
                if check:
                    self._require_intact(name, rows[at], block)
                out[slice_of(places[at]), ..., start:stop] = block
            start = stop

    def maps(self, layer: str, rows: np.ndarray | None = None) -> Maps:
        """Return the feature maps of a layer, to be read by rows: nothing is read before it is asked for.

        Parameters
        ----------
        layer : str
            One of `map_layers`.
        rows : ndarray of int, shape (k,), optional
            Row numbers; all that have codes by default, as for `codes`.

        Returns
        -------
        Maps
            They are float16 and have the shape (k, C, H, W), or (k, n_views, C, H, W) where the file has several views
            of each image. ``maps[batch]`` reads some of them. A row is compared with its checksum when it is first
            read; ``maps.check()`` compares all at once.

        Raises
        ------
        CodesFileError
            The maps of this layer are not kept. When a row is read that is pending, failed or damaged, that is the
            error, too.

        Examples
        --------
        >>> with CodesFile.open("codes.h5") as file:  # doctest: +SKIP
        ...     batch = file.maps("layer3")[:32]
        """
        if layer not in self.map_layers:
            there = f"It holds those of {', '.join(self.map_layers)}" if self.map_layers else "It holds none"
            raise CodesFileError(
                f"{self.path}: no maps of {layer!r}. {there}; to add them: {parameter('maps', [layer], of='extract')}"
            )
        key = map_key(layer)
        rows = self.rows(labelled=False) if rows is None else np.asarray(rows, np.int64)
        return Maps(self._columns[key].mapped(), rows, partial(self._require_intact, key))

    def thumbnails(self, rows: np.ndarray) -> np.ndarray:
        """Read the small pictures of images.

        Parameters
        ----------
        rows : ndarray of int, shape (k,)
            Row numbers.

        Returns
        -------
        ndarray, shape (k,)
            Records. ``grey`` (64, 64) and ``colour`` (2, 16, 16), the blue and red differences of JPEG, show the whole
            image, squashed to a square; ``size`` is its width and height in pixels. All is 0 where the file has no
            picture, or a damaged one.
        """
        return self._thumbnails.read(rows) if self.has_thumbnails else blank(len(rows))

    def without_thumbnail(self) -> np.ndarray:
        """Return the rows with codes whose small picture is missing or damaged; none if the file keeps no pictures."""
        return self._thumbnails.amiss(self.rows(labelled=False))[0] if self.has_thumbnails else np.empty(0, np.int64)

    def verify(self, progress: Progress | None = None) -> np.ndarray:
        """Compare every row with its checksums.

        Parameters
        ----------
        progress : callable, optional
            Called with (done, total, 0) while rows are compared; the row of each stored layer, and of each map,
            counts.

        Returns
        -------
        ndarray of int
            Rows that are recorded as done but damaged, be it their codes, their maps or their small picture.
        """
        written = (self._columns["images/state"][:] != PENDING) & ~self._missing().any(axis=1)
        damaged = np.flatnonzero(written & ~self.good(progress).all(axis=1))
        if self.has_thumbnails:
            damaged = np.union1d(damaged, self._thumbnails.amiss(self.rows(labelled=False))[1])
        return damaged

    def good(self, progress: Progress | None = None) -> np.ndarray:
        """Compare every row of every stored layer, and of every map, with its checksum.

        Parameters
        ----------
        progress : callable, optional
            As for `verify`.

        Returns
        -------
        ndarray of bool, shape (n, n_stored_keys)
            Whether it is done, as codes or as a failure, and intact. Columns are in the order of `stored_keys`.
        """
        checksums = Checksums(self._columns, self.fingerprint)  # remembers nothing: every row is compared
        return checksums.match_all([self._array(key) for key in self.stored_keys], progress)

    @property
    def _thumbnails(self) -> StoredThumbnails:
        return StoredThumbnails(self._columns[THUMBNAILS], self._columns["images/sha256"])

    def _require_intact(self, key: str, rows: np.ndarray, values: np.ndarray) -> None:
        if not (good := self._checksums.match(self._column_of(key), rows, values)).all():
            bad = rows[~good]
            raise CodesFileError(
                f"{self.path}: {len(bad)} row(s) of {key!r} are pending or damaged, the first is "
                f"{str(self.ids[bad[0]])!r}; run the same `cnncodes extract` again to compute them"
            )
