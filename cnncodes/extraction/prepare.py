"""Makes the codes file that an extraction fills, and copies the codes that an older one has already."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import CHUNK_BYTES
from cnncodes.codes.provenance import Provenance, refuse_mismatch
from cnncodes.codes.thumbnails import present
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, parameter
from cnncodes.extraction.reuse import Reuse
from cnncodes.extraction.stamps import file_stamp
from cnncodes.vocabulary import map_key

__all__ = ["copy_failures", "copy_rows", "prepare", "widen"]

logger = logging.getLogger(__name__)

COPY_ROWS = 1024  # rows that are copied at a time


def prepare(
    out: Path, plan: Reuse, provenance: Provenance, old: Provenance | None, *, thumbnails: bool | None = None
) -> None:
    """Make `out` a codes file of these images, layers and maps, keeping what it has of them.

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
        The file has changed since the plan was made; or layers or maps are added to rows whose images are not at hand.
    """
    if file_stamp(out) != plan.stamp:
        raise CodesFileError(f"{out}: another process has changed it in the meantime; run the same command again")
    if old is None:
        _announce_maps(provenance, len(plan.table))
        CodesWriter.create(out, plan.table, provenance, thumbnails=thumbnails is not False)
        return
    refuse_mismatch(out, old, provenance)
    extra = [name for name in provenance.layers if name not in old.layers]
    extra += [f"the maps of {name}" for name in provenance.maps if name not in old.maps]
    if plan.kept and extra:
        raise CodesFileError(
            f"{out}: {plan.kept} of its rows are of other images, which would lack {', '.join(extra)}; "
            f"{parameter('add', True)} takes the layers and maps of the file; one is added with all its images given"
        )
    with CodesFile.open(out) as file:
        wanted = file.has_thumbnails if thumbnails is None else thumbnails
        same_keys = file.layers == list(provenance.layers) and file.map_layers == list(provenance.maps)
        if not plan.unchanged or not same_keys or wanted != file.has_thumbnails:

            def fill(new: CodesWriter) -> None:
                copy_rows(file, new, plan.twins)
                if plan.unchanged:  # or, while a layer is added, they would count as not extracted yet
                    copy_failures(file, new)

            _announce_maps(provenance, len(plan.table))
            CodesWriter.create(out, plan.table, provenance, thumbnails=wanted, fill=fill)


def _announce_maps(provenance: Provenance, n_images: int) -> None:
    """Log how large the maps become: they may be a hundred times larger than the codes."""
    for name in provenance.maps:
        shape, size = "×".join(map(str, provenance.map_shape(name))), provenance.map_bytes(name)
        text = "maps of %s, %s in float16: %.1f kB an image, %.1f MB for %d images"
        logger.warning(text, name, shape, size / 1e3, n_images * size / 1e6, n_images)


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
    """Copy codes, maps and small pictures to another file; `twins` maps a row of the new file to one of the old."""
    digests, good = old.sha256, old.good()
    intact = dict(zip(old.stored_keys, good.T, strict=True))
    for name in old.layers:
        is_good = intact[old.links.get(name, name)]
        for part, source in _parts([row for row, twin in twins.items() if is_good[twin]], twins):
            new.write(part, {new.links.get(name, name): old.codes(name, source)}, digests[source])
    for name in old.map_layers:
        key, maps = map_key(name), old.maps(name, np.arange(old.n))
        at_once = max(1, CHUNK_BYTES // maps.row_bytes)
        for part, source in _parts([row for row, twin in twins.items() if intact[key][twin]], twins, at_once):
            new.write(part, {key: maps[source]}, digests[source])
    if new.has_thumbnails:
        for part, source in _parts(sorted(twins), twins):
            records = old.thumbnails(source)
            there = present(records)
            new.write_thumbnails(part[there], records[there], digests[source[there]])


def copy_failures(old: CodesFile, new: CodesWriter, first: int = 0, step: int = 1) -> None:
    """Copy what is recorded of images that could not be read; row i of the old file is row first + i * step."""
    reasons, digests = old.errors, old.sha256
    for row in np.flatnonzero(old.failed).tolist():
        new.fail(first + row * step, str(reasons[row]), digests[row])


def _parts(
    rows: Sequence[int], twins: Mapping[int, int], at_once: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield some rows of the new file at a time, and the rows of the old file that they are copied from."""
    for part in np.array_split(np.array(rows, np.int64), len(rows) // (at_once or COPY_ROWS) + 1):
        yield part, np.array([twins[row] for row in part.tolist()], np.int64)
