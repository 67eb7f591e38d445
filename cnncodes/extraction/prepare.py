"""Makes the codes file that an extraction fills, and copies the codes that an older one has already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.provenance import Provenance, refuse_mismatch
from cnncodes.codes.thumbnails import present
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, parameter
from cnncodes.extraction.reuse import Reuse, file_stamp

__all__ = ["copy_failures", "copy_rows", "prepare", "widen"]

COPY_ROWS = 1024  # rows that are copied at a time


def prepare(
    out: Path, plan: Reuse, provenance: Provenance, old: Provenance | None, *, thumbnails: bool | None = None
) -> None:
    """Make `out` a codes file of these images and layers, keeping the codes that it has.

    Parameters
    ----------
    out : Path
    plan : Reuse
        How the images match the rows of the file.
    provenance : Provenance
        How codes are made now.
    old : Provenance or None
        How the codes of the file were made; if None, the file is made anew.
    thumbnails : bool, optional
        Whether the file is to keep a small picture of each image; by default, a file that is continued keeps them if it
        has them, and a new file keeps them.

    Raises
    ------
    MismatchError
        The two provenances differ.
    CodesFileError
        The file has changed since the plan was made; or layers are added to rows whose images are not at hand.
    """
    if file_stamp(out) != plan.stamp:
        raise CodesFileError(f"{out}: another process has changed it in the meantime; run the same command again")
    if old is None:
        CodesWriter.create(out, plan.table, provenance, thumbnails=thumbnails is not False)
        return
    refuse_mismatch(out, old, provenance)
    if plan.kept and (extra := [name for name in provenance.layers if name not in old.layers]):
        raise CodesFileError(
            f"{out}: {plan.kept} of its rows are of other images, which would lack {', '.join(extra)}; "
            f"{parameter('add', True)} takes the layers of the file, and a layer is added with all its images given"
        )
    with CodesFile.open(out) as file:
        wanted = file.has_thumbnails if thumbnails is None else thumbnails
        if not plan.unchanged or file.layers != list(provenance.layers) or wanted != file.has_thumbnails:

            def fill(new: CodesWriter) -> None:
                copy_rows(file, new, plan.twins)
                if plan.unchanged:  # or, while a layer is added, they would count as not extracted yet
                    copy_failures(file, new)

            CodesWriter.create(out, plan.table, provenance, thumbnails=wanted, fill=fill)


def widen(out: Path) -> bool:
    """Keep the codes of `out` in float32 from now on; return False if its type was not ``auto``."""
    with CodesFile.open(out) as old:
        if old.provenance.dtype != "auto":
            return False
        same = {row: row for row in range(old.n) if not old.failed[row]}
        CodesWriter.create(
            out,
            old.table,
            old.provenance.in_float32(),
            thumbnails=old.has_thumbnails,
            fill=lambda new: copy_rows(old, new, same),
        )
    return True


def copy_rows(old: CodesFile, new: CodesWriter, twins: Mapping[int, int]) -> None:
    """Copy codes and small pictures from one file to another; `twins` maps a row of the new file to one of the old."""
    digests, good = old.sha256, old.good()
    for name in old.layers:
        column = old.stored_layers.index(old.links.get(name, name))
        rows = np.array([row for row, twin in twins.items() if good[twin, column]], np.int64)
        for part, source in _parts(rows, twins):
            new.write(part, {new.links.get(name, name): old.codes(name, source)}, digests[source])
    if new.has_thumbnails:
        for part, source in _parts(np.array(sorted(twins), np.int64), twins):
            records = old.thumbnails(source)
            there = present(records)
            new.write_thumbnails(part[there], records[there], digests[source[there]])


def copy_failures(old: CodesFile, new: CodesWriter, first: int = 0, step: int = 1) -> None:
    """Copy what is recorded of images that could not be read; row i of the old file is row first + i * step."""
    reasons, digests = old.errors, old.sha256
    for row in np.flatnonzero(old.failed).tolist():
        new.fail(first + row * step, str(reasons[row]), digests[row])


def _parts(rows: np.ndarray, twins: Mapping[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield some rows of the new file at a time, and the rows of the old file that they are copied from."""
    for part in np.array_split(rows, len(rows) // COPY_ROWS + 1):
        yield part, np.array([twins[row] for row in part.tolist()], np.int64)
