"""The rows of an open codes file: the image of each row, its labels, and whether its codes are there."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from cnncodes.codes.checksums import Checksums
from cnncodes.codes.columns import Columns, StoredArray
from cnncodes.codes.layout import CONSTANT, FAILED, OK, PENDING, STATES, THUMBNAILS, ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import CodesFileError, nearest, parameter
from cnncodes.names import composed_names
from cnncodes.vocabulary import MAPS

__all__ = ["ImageRows"]


class ImageRows:
    """The rows of open tables: the image of each row, its labels, and whether its codes are there.

    Codes are read by `CodesFile`, whose docstring describes the attributes that users meet.

    Parameters
    ----------
    path : Path
        Name of the file in errors.
    columns : Columns
        The open tables.
    provenance : Provenance
        How the codes were made.
    classes : list of str
        Names of the classes.
    remember : bool, default=True
        Compare a row with its checksum only once; not for tables that are written to.
    """

    def __init__(
        self, path: Path, columns: Columns, provenance: Provenance, classes: list[str], *, remember: bool = True
    ) -> None:
        self.path, self._columns, self.provenance, self.classes = path, columns, provenance, classes
        self.fingerprint = provenance.fingerprint
        self.links = provenance.links
        self.layers = list(provenance.layers)
        self.stored_layers = provenance.stored_layers
        self.map_layers = list(provenance.maps)
        self.stored_keys = provenance.stored_keys
        self.n = len(columns["images/id"])
        self.views = provenance.preprocessing.middle_axis
        self.has_thumbnails = THUMBNAILS in columns
        self._checksums = Checksums(columns, self.fingerprint, remember=remember)

    def __len__(self) -> int:
        return self.n

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
    def top_layer(self) -> str:
        """``penultimate`` where the file has it, else the last layer, of those that are finished."""
        names = self.finished_layers
        return "penultimate" if "penultimate" in names else names[-1]

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

    def _column_of(self, key: str) -> int:
        """Column of the checksums of a layer, which are those of the layer that it is linked to, or of a map."""
        return self.stored_keys.index(self.links.get(key, key))

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
