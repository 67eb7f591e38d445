"""Several codes files of different images that were made alike, read as if they were one; nothing is copied."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnncodes.codes.columns import Columns, Place, StoredArray, bytes_of_rows, slice_of
from cnncodes.codes.file import CodesFile
from cnncodes.codes.image_rows import ImageRows
from cnncodes.codes.maps import Maps
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import CodesFileError, MismatchError
from cnncodes.names import composed
from cnncodes.system.progress import Progress

__all__ = ["JoinedCodes"]

MAX_NAMED = 3  # files that an error names


class JoinedCodes(CodesFile):
    """Codes files that were made alike, read as one: the rows of the first file, then those of the second, and so on.

    Each row is compared with the checksum that its own file holds of it. Images of two files may have the same name.
    Parts of a sharded extraction are read like that, too, if all of them are given.

    Parameters
    ----------
    paths : sequence of paths
        Codes files of different images, with the same layers and settings; at least one.

    Raises
    ------
    CodesFileError
        A file is no codes file, two of them have the same image (its bytes and its name), or parts of an extraction are
        missing.
    MismatchError
        The files were made with different settings.

    Examples
    --------
    >>> with JoinedCodes(["a.h5", "b.h5"]) as file:  # doctest: +SKIP
    ...     X = file.codes("penultimate", file.rows())
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        if not paths:
            raise CodesFileError("there are no codes files; name at least one")
        with ExitStack() as opened:
            self.parts = [opened.enter_context(CodesFile.open(path)) for path in paths]
            provenance = _joined_provenance(self.parts)
            _refuse_same_images(self.parts)
            opened.pop_all()
        path = Path(_named([str(part.path) for part in self.parts]))
        columns = _JoinedColumns([part._columns for part in self.parts])
        classes = sorted({name for part in self.parts for name in part.classes})
        ImageRows.__init__(self, path, columns, provenance, classes)  # that of CodesFile would open `path`
        self._starts = np.cumsum([0, *(part.n for part in self.parts)])

    @property
    def failed(self) -> np.ndarray:
        """Whether the image of each row is recorded as failed, shape (n,), bool."""
        return np.concatenate([part.failed for part in self.parts])

    def maps(self, layer: str, rows: np.ndarray | None = None) -> Maps:
        """Refuse to read feature maps; `merge` makes one file of the parts of an extraction."""
        raise CodesFileError(
            f"{self.path}: feature maps are read from one file; open one of these, or merge them first"
        )

    def good(self, progress: Progress | None = None) -> np.ndarray:
        """Compare every row of every stored layer, and of every map, with its checksum.

        Parameters
        ----------
        progress : callable, optional
            As for `verify`; it counts the rows of one file after the other.

        Returns
        -------
        ndarray of bool, shape (n, n_stored_keys)
            Whether it is done, as codes or as a failure, and intact. Columns are in the order of `stored_keys`.
        """
        return np.concatenate([part.good(progress) for part in self.parts])

    def _read_into(
        self, out: np.ndarray, places: np.ndarray, names: Sequence[str], rows: np.ndarray, *, check: bool
    ) -> None:
        of_part = np.searchsorted(self._starts, rows, side="right") - 1
        for number, part in enumerate(self.parts):
            here = np.flatnonzero(of_part == number)
            if len(here):
                inside = rows[slice_of(here)] - self._starts[number]
                part._read_into(out, places[slice_of(here)], names, inside, check=check)


class _JoinedColumns(Columns):
    """The tables of several open files by name, each as one table."""

    def __init__(self, parts: Sequence[Columns]) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> StoredArray:
        return _JoinedArray([part[name] for part in self._parts])

    def __contains__(self, name: str) -> bool:
        return all(name in part for part in self._parts)

    def close(self) -> None:
        for part in self._parts:
            part.close()


class _JoinedArray(StoredArray):
    """Tables of several files, the rows of one after those of another; read as one table."""

    def __init__(self, parts: Sequence[StoredArray]) -> None:
        self._parts = parts
        dtype = np.result_type(*(part.place.dtype for part in parts))
        self.place = Place(0, (sum(map(len, parts)), *parts[0].place.shape[1:]), dtype)
        self.sha256 = parts[0].sha256

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        pieces, first = [], 0
        for part in self._parts:
            inside = slice(max(0, start - first), max(0, min(len(part), stop - first)))
            if inside.start < inside.stop:
                pieces.append(part[inside])
            first += len(part)
        return np.concatenate([np.empty((0, *self.place.shape[1:]), self.place.dtype), *pieces])

    def whole(self) -> tuple[np.ndarray, bool]:
        values, intact = zip(*(part.whole() for part in self._parts), strict=True)
        return np.concatenate(values), all(intact)


def _joined_provenance(parts: Sequence[CodesFile]) -> Provenance:
    """Return what the provenances of files have in common.

    Raises
    ------
    MismatchError
        They differ in more than the type in which codes are stored.
    CodesFileError
        The files are parts of a sharded extraction, and some are missing.
    """

    def comparable(file: CodesFile) -> Provenance:
        shard = file.provenance.shard
        return file.provenance.with_shard(shard and replace(shard, part=1)).in_float32()

    first = parts[0]
    for other in parts[1:]:
        if differences := comparable(first).differences(comparable(other), every=True):
            raise MismatchError(
                f"{other.path} and {first.path} were made differently, so that one classifier cannot learn from both: "
                f"{'; '.join(differences)}"
            )
    if shard := first.provenance.shard:
        there = {part.provenance.shard.part for part in parts if part.provenance.shard}
        if missing := [str(part) for part in range(1, shard.of + 1) if part not in there]:
            raise CodesFileError(f"{first.path} is one of {shard.of} parts; name {', '.join(missing)} as well")
    provenance = first.provenance.with_shard(None)
    return provenance if all(part.dtype == first.dtype for part in parts) else provenance.in_float32()


def _refuse_same_images(parts: Sequence[CodesFile]) -> None:
    """Raise `CodesFileError` if an image is in two files: the same bytes under the same name."""
    hashes = [np.unique([hash(image) for image in _images(part)]) for part in parts]
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)  # 8 bytes an image; names take 20 times that
    repeated = set(values[counts > 1].tolist())
    holder: dict[tuple[str, bytes], CodesFile] = {}
    for part in parts if repeated else ():
        images = {image for image in _images(part) if hash(image) in repeated}
        if both := sorted(images & holder.keys()):
            count = f"{len(both)} images, the first is {both[0][0]!r}" if len(both) > 1 else repr(both[0][0])
            raise CodesFileError(
                f"{holder[both[0]].path} and {part.path} both have {count}: images that are learned from twice would "
                "flatter the score. Name each file once, and no file that another one was continued from"
            )
        holder |= dict.fromkeys(images, part)


def _images(file: CodesFile) -> Iterator[tuple[str, bytes]]:
    """Yield name and digest of each image that was read."""
    for name, digest in zip(file._text("id").tolist(), map(bytes, bytes_of_rows(file.sha256)), strict=True):
        if any(digest):
            yield composed(name), digest


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MAX_NAMED} more" * (len(paths) > MAX_NAMED)
    return ", ".join(paths[:MAX_NAMED]) + more
