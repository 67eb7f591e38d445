"""The codes file: an HDF5 file of codes, ids, labels and provenance, open for reading.

What is in it was written by `writer`; a row counts only when it matches its checksum. The module is longer than others,
but has one duty: it is one class, and nearly half of it describes what the properties and methods return.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cnncodes.codes.checksums import Checksums
from cnncodes.codes.columns import StoredArray, slice_of
from cnncodes.codes.layout import (
    CHUNK_BYTES,
    CONSTANT,
    FAILED,
    OK,
    PENDING,
    STATES,
    THUMBNAILS,
    ImageTable,
    open_columns,
)
from cnncodes.codes.maps import Maps
from cnncodes.codes.summary import summarise, summary_html
from cnncodes.codes.thumbnails import blank, matching, present
from cnncodes.errors import CodesFileError, nearest, parameter
from cnncodes.names import composed_names
from cnncodes.system.places import refuse_url
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import MAPS, as_names, map_key

__all__ = ["CodesFile"]


class CodesFile:
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
        self.path = Path(path)
        self._columns, self.provenance, self.classes = open_columns(self.path, writable=writable)
        self.fingerprint = self.provenance.fingerprint
        self.links = self.provenance.links
        self.layers = list(self.provenance.layers)
        self.stored_layers = self.provenance.stored_layers
        self.map_layers = list(self.provenance.maps)
        self.stored_keys = self.provenance.stored_keys
        self.n = len(self._columns["images/id"])
        self.views = self.provenance.preprocessing.middle_axis
        self.has_thumbnails = THUMBNAILS in self._columns
        self._checksums = Checksums(self._columns, self.fingerprint, remember=not writable)

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

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        backbone = self.provenance.backbone
        return f"CodesFile({str(self.path)!r}, n={self.n}, backbone={backbone!r}, layers={self.layers})"

    def _repr_html_(self) -> str:
        return summary_html(self.info())

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of the images, shape (n,), str."""
        return self._text("id")

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels, shape (n,), str; an empty string where an image has none."""
        return composed_names(self._text("label"))

    @cached_property
    def groups(self) -> np.ndarray:
        """Groups (images that belong together), shape (n,), str; an empty string where there is none."""
        return composed_names(self._text("group"))

    @cached_property
    def splits(self) -> np.ndarray:
        """Splits (``train``, ``val``, ``test``), shape (n,), str; an empty string where there is none."""
        return self._text("split")

    @property
    def errors(self) -> np.ndarray:
        """Why an image failed, shape (n,), str; an empty string where it did not."""
        failed = self.failed
        reasons = self._decoded("error", self._columns["images/error"][:][failed])
        errors = np.zeros(self.n, reasons.dtype)
        errors[failed] = reasons
        return errors

    @property
    def sha256(self) -> np.ndarray:
        """SHA-256 of each image's bytes, shape (n, 32), uint8; zeros where the image has not been read."""
        return self._columns["images/sha256"][:]

    @property
    def sealed(self) -> bool:
        """Whether ids, labels, groups and splits have checksums; those of files of the earlier layout have none."""
        return self._columns["images/id"].sha256 is not None

    def damaged_columns(self) -> list[str]:
        """Return which of ids, labels, groups, splits, file sizes and file times do not match their checksums."""
        return [text for name, text in CONSTANT.items() if not self._columns[f"images/{name}"].whole()[1]]

    @property
    def table(self) -> ImageTable:
        """The image table that the file was created with."""
        sizes, changed = (self._whole(name).tolist() for name in ("size", "changed_ns"))
        texts = {name: getattr(self, name).tolist() for name in ("labels", "groups", "splits")}
        return ImageTable(self.ids.tolist(), **texts, sizes=sizes, changed=changed)

    def salvaged_table(self) -> ImageTable:
        """Return what can be read of a damaged image table: text as it is, and no sizes and times."""
        columns = (self._columns[f"images/{name}"][:].tolist() for name in ("id", "label", "group", "split"))
        return ImageTable(*([value.decode("utf-8", "replace") for value in values] for values in columns))

    @property
    def state(self) -> np.ndarray:
        """State of each row as recorded, shape (n,): ``"ok"``, ``"failed"`` or ``"pending"``.

        A failure counts only if its record matches its checksum. Codes are compared when they are read, and by
        `verify`.
        """
        return np.array(STATES)[self._state()]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows in each state."""
        counts = np.bincount(self._state(), minlength=len(STATES))
        return {name: int(count) for name, count in zip(STATES, counts, strict=True)}

    @property
    def failed(self) -> np.ndarray:
        """Whether the image of each row is recorded as failed, shape (n,), bool."""
        failed: np.ndarray = self._columns["images/state"][:] == FAILED
        if self.stored_layers and failed.any():
            place = self._codes_of(self.stored_layers[0]).place
            failed[failed] = self._checksums.match_failures(np.flatnonzero(failed), place.shape[1:], place.dtype)
        return failed

    @property
    def complete(self) -> bool:
        """Whether no row is pending."""
        return self.counts["pending"] == 0

    @property
    def finished_layers(self) -> list[str]:
        """The layers that all images with codes have: all but those that are being added."""
        finished = self._finished(self._missing())
        return [name for name in self.layers if finished[self._column_of(name)]]

    @property
    def n_missing(self) -> int:
        """Number of images that lack a finished layer."""
        return int((self._state(finished=True) == PENDING).sum())

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
        failed = self.failed
        ids = self.ids[failed].tolist() if failed.any() else []
        return summarise(
            self.path,
            self.provenance,
            labels=self.labels,
            splits=self.splits,
            counts=self.counts,
            failures=dict(zip(ids, self.errors[failed].tolist(), strict=True)),
            thumbnails=self.has_thumbnails,
        )

    @property
    def top_layer(self) -> str:
        """``penultimate`` where the file has it, else the last layer, of those that are finished."""
        names = self.finished_layers
        return "penultimate" if "penultimate" in names else names[-1]

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

    def rows(self, split: str | None = None, *, labelled: bool = True) -> np.ndarray:
        """Return which rows hold codes of all finished layers.

        Parameters
        ----------
        split : str, optional
            Only rows of this split; by default rows of every split.
        labelled : bool, default=True
            Only rows with a label.

        Returns
        -------
        ndarray of int64, shape (k,)
            Row numbers, ascending.

        Examples
        --------
        >>> with CodesFile.open("codes.h5") as file:  # doctest: +SKIP
        ...     train = file.rows("train")
        """
        keep = self._state(finished=True) == OK
        if labelled:
            keep &= self.labels != ""
        if split is not None:
            keep &= self.splits == split
        return np.flatnonzero(keep)

    def present(self, layer: str) -> np.ndarray:
        """Return which rows have codes of a layer.

        Parameters
        ----------
        layer : str
            One of `layers`.

        Returns
        -------
        ndarray of bool, shape (n,)
            Whether the codes of the row are recorded; checksums are not compared.

        Raises
        ------
        CodesFileError
            There is no such layer.
        """
        self._codes_of(layer)  # refuses an unknown one
        return (self._columns["images/crc32"][:][:, self._column_of(layer)] != 0) & ~self.failed

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
        records = blank(len(rows))
        if self.has_thumbnails and len(rows):
            for at, block, good in self._thumbnail_pieces(rows):
                records[at[good]] = block[good]
        return records

    def _thumbnail_pieces(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (positions in `rows`, their records, which of those are intact), some at a time."""
        for at, block in self._columns[THUMBNAILS].pieces(rows, CHUNK_BYTES):
            first, last = int(rows[at[0]]), int(rows[at[-1]])  # ascending
            digests = self._columns["images/sha256"][first : last + 1][rows[at] - first]
            yield at, block, matching(block, digests)

    def without_thumbnail(self) -> np.ndarray:
        """Return the rows with codes whose small picture is missing or damaged; none if the file keeps no pictures."""
        if not self.has_thumbnails:
            return np.empty(0, np.int64)
        return self._thumbnails_amiss()[0]

    def _thumbnails_amiss(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows with codes whose small picture is missing or damaged, and which of them are damaged."""
        rows = self.rows(labelled=False)
        intact, written = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        for at, block, good in self._thumbnail_pieces(rows) if len(rows) else ():
            intact[at] = good & present(block)
            written[at] = block.view(np.uint8).reshape(len(block), -1).any(axis=1)  # its checksum may be lost
        return rows[~intact], written[~intact]

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
            rows, is_damaged = self._thumbnails_amiss()
            damaged = np.union1d(damaged, rows[is_damaged])
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
        written = self._columns["images/crc32"][:] != 0
        good, done = np.zeros_like(written), 0
        checksums = Checksums(self._columns, self.fingerprint)  # remembers nothing: every row is compared
        for column, key in enumerate(self.stored_keys):
            rows = np.flatnonzero(written[:, column])
            for at, block in self._array(key).pieces(rows, CHUNK_BYTES):
                good[rows[at], column] = checksums.match(column, rows[at], block, states=(OK, FAILED))
                done += len(block)
                if progress is not None:
                    progress(done, int(written.sum()), 0)
        return good

    def _column_of(self, key: str) -> int:
        """Column of the checksums of a layer, which are those of the layer that it is linked to, or of a map."""
        return self.stored_keys.index(self.links.get(key, key))

    def _require_intact(self, key: str, rows: np.ndarray, values: np.ndarray) -> None:
        if not (good := self._checksums.match(self._column_of(key), rows, values)).all():
            bad = rows[~good]
            raise CodesFileError(
                f"{self.path}: {len(bad)} row(s) of {key!r} are pending or damaged, the first is "
                f"{str(self.ids[bad[0]])!r}; run the same `cnncodes extract` again to compute them"
            )

    def _array(self, key: str) -> StoredArray:
        return self._columns[key] if key.startswith(MAPS) else self._codes_of(key)

    def _codes_of(self, layer: str) -> StoredArray:
        if layer not in self.layers:
            hint = nearest(layer, self.layers)
            raise CodesFileError(
                f"{self.path}: no layer {layer!r}.{hint} It holds {', '.join(self.layers)}; "
                f"to add one: {parameter('layers', [layer], of='extract')}"
            )
        return self._columns[f"codes/{layer}"]

    def _missing(self) -> np.ndarray:
        """Whether a row lacks a stored layer or a map, shape (n, n_stored_keys)."""
        return self._columns["images/crc32"][:] == 0

    @staticmethod
    def _finished(missing: np.ndarray) -> np.ndarray:
        """Whether each stored layer, and each map, is finished; if none is, all count, as then none is being added."""
        finished: np.ndarray = ~np.any(missing[~missing.all(axis=1)], axis=0)
        return finished if finished.any() else ~finished

    def _state(self, *, finished: bool = False) -> np.ndarray:
        """State of each row, by all layers or by those that are finished."""
        state, missing = self._columns["images/state"][:], self._missing()
        state[(missing[:, self._finished(missing)] if finished else missing).any(axis=1)] = PENDING
        return np.where((state == OK) | ((state == FAILED) & self.failed), state, PENDING)

    def _whole(self, name: str) -> np.ndarray:
        """Return a column that was written once, compared with its checksum."""
        values, intact = self._columns[f"images/{name}"].whole()
        if not intact:
            raise CodesFileError(
                f"{self.path}: damaged: its {CONSTANT[name]} do not match their checksum; `cnncodes extract` with all "
                "its images writes them anew and keeps the codes"
            )
        return values

    def _text(self, name: str) -> np.ndarray:
        return self._decoded(name, self._whole(name))

    def _decoded(self, name: str, values: np.ndarray) -> np.ndarray:
        try:
            return np.array([value.decode("utf-8") for value in values], dtype=str)
        except UnicodeDecodeError as error:
            raise CodesFileError(f"{self.path}: damaged: an {name} is {error.object[:40]!r}, expected UTF-8") from error
