"""Joins the parts of a sharded extraction into the codes file that one extraction would have made."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import CHUNK_BYTES
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.provenance_parts import ShardProvenance
from cnncodes.codes.thumbnails import present
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, MismatchError, parameter
from cnncodes.extraction.prepare import COPY_ROWS, copy_failures
from cnncodes.extraction.reuse import by_folder
from cnncodes.extraction.shards import joined_table, table_digests
from cnncodes.names import composed
from cnncodes.system.places import refuse_url
from cnncodes.vocabulary import map_key

__all__ = ["merge"]

Reader = Callable[[np.ndarray], np.ndarray]  # takes rows of a part, and returns what it has of them


def merge(parts: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] = "codes.h5") -> None:
    """Join the codes files of all parts of a sharded extraction.

    The result has the very bytes of an extraction that was not sharded.

    Parameters
    ----------
    parts : sequence of paths
        Each made by ``extract(images, path, shard=(i, n))``, in any order.
    out : path, default="codes.h5"
        An existing codes file is replaced only if the parts hold all its codes.

    Raises
    ------
    MismatchError
        The parts were made with different settings, or of different images.
    CodesFileError
        A part is no part, is there twice, is missing, or is not finished; or `out` holds codes that would be lost, is
        no codes file, or cannot be written.

    Examples
    --------
    >>> merge(["part-1.h5", "part-2.h5"], "codes.h5")  # doctest: +SKIP
    """
    refuse_url(out, "a codes file", writing=True, error_type=CodesFileError)
    target = Path(out)
    with contextlib.ExitStack() as stack:
        files = _in_order([stack.enter_context(CodesFile.open(path)) for path in parts])
        for file in files:
            _refuse_unfinished(file)
        table = joined_table([file.table for file in files])
        if _shard(files[0]).images not in table_digests(table):
            raise MismatchError(f"{target}: the parts do not add up to the images that they were taken from")
        provenance = files[0].provenance.with_shard(None)
        if any(file.dtype != files[0].dtype for file in files):  # float16 held the codes of some parts only
            provenance = provenance.in_float32()
        if target.exists():
            _refuse_loss(target, files, provenance)

        def fill(new: CodesWriter) -> None:
            _copy_in_turn(files, new)
            for start, file in enumerate(files):
                copy_failures(file, new, start, len(files))

        thumbnails = any(file.has_thumbnails for file in files)
        CodesWriter.create(target, table, provenance, thumbnails=thumbnails, fill=fill)


def _copy_in_turn(files: Sequence[CodesFile], new: CodesWriter) -> None:
    """Copy the codes, maps and small pictures of all parts, always to rows that lie side by side."""
    readers: dict[str, list[Reader]] = {}
    for name in new.stored_layers:
        readers[name] = [partial(file.codes, name) for file in files]
    for name in new.map_layers:
        readers[map_key(name)] = [file.maps(name, np.arange(file.n)).__getitem__ for file in files]
    digests: list[Reader] = [file.sha256.__getitem__ for file in files]
    failed = _dealt_back([file.failed.__getitem__ for file in files], np.arange(new.n))
    done = np.flatnonzero(~failed)
    provenance = new.provenance
    row_bytes = sum(4 * math.prod(provenance.code_shape(name)) for name in new.stored_layers)  # read as float32
    row_bytes += sum(map(provenance.map_bytes, new.map_layers))
    step = max(1, min(COPY_ROWS, CHUNK_BYTES // row_bytes))
    for start in range(0, len(done), step):
        rows = done[start : start + step]
        sha256 = _dealt_back(digests, rows)
        new.write(rows, {key: _dealt_back(of_key, rows) for key, of_key in readers.items()}, sha256)
        if new.has_thumbnails:
            records = _dealt_back([file.thumbnails for file in files], rows)
            there = present(records)
            new.write_thumbnails(rows[there], records[there], sha256[there])


def _dealt_back(readers: Sequence[Reader], rows: np.ndarray) -> np.ndarray:
    """Read rows of the joined file, each from the part that it was dealt to."""
    of_part = [rows % len(readers) == part for part in range(len(readers))]
    blocks = [read(rows[here] // len(readers)) for read, here in zip(readers, of_part, strict=True)]
    values = np.empty((len(rows), *blocks[0].shape[1:]), blocks[0].dtype)
    for here, block in zip(of_part, blocks, strict=True):
        values[here] = block
    return values


def _in_order(files: list[CodesFile]) -> list[CodesFile]:
    """Sort the parts by their number; refuse parts that do not belong together."""
    if not files:
        raise CodesFileError("there are no parts to merge")
    shards = [_shard(file) for file in files]
    first = files[0]
    for file, shard in zip(files[1:], shards[1:], strict=True):
        same_part = file.provenance.with_shard(replace(shard, part=shards[0].part))
        if differences := first.provenance.in_float32().differences(same_part.in_float32(), every=True):
            raise MismatchError(f"{file.path} and {first.path} do not belong together: {'; '.join(differences)}")
    of = shards[0].of
    by_part: dict[int, CodesFile] = {}
    for file, shard in zip(files, shards, strict=True):
        part = shard.part
        if (twin := by_part.setdefault(part, file)) is not file:
            raise CodesFileError(f"{file.path} and {twin.path} are both part {part} of {of}")
    if missing := [str(part) for part in range(1, of + 1) if part not in by_part]:
        raise CodesFileError(
            f"of {of} parts, {', '.join(missing)} is missing; extract it with "
            f"{parameter('shard', (int(missing[0]), of), of='extract')}"
        )
    return [by_part[part] for part in range(1, of + 1)]


def _shard(file: CodesFile) -> ShardProvenance:
    if file.provenance.shard is None:
        make = parameter("shard", "I/N", of="extract")
        raise CodesFileError(f"{file.path}: no part of anything; make parts with {make}")
    return file.provenance.shard


def _refuse_unfinished(file: CodesFile) -> None:
    if pending := int((~file.good().all(axis=1)).sum()):
        raise CodesFileError(
            f"{file.path}: {pending} of {file.n} images are pending or damaged; run its `cnncodes extract` again first"
        )


def _refuse_loss(target: Path, files: list[CodesFile], provenance: Provenance) -> None:
    """Refuse to replace a file that is no codes file, is a part itself, or has codes that the parts lack."""
    if any(target.samefile(file.path) for file in files):
        raise CodesFileError(f"{target}: is one of the parts; choose another place with {parameter('out')}")
    try:
        old = CodesFile.open(target)
    except CodesFileError as error:
        raise CodesFileError(f"{error}; it stays as it is: choose another place with {parameter('out')}") from error
    with old:
        merged: set[tuple[str, bytes]] = set()
        if not old.provenance.differences(provenance, every=True):
            rows = ((name, one) for file in files for name, one in zip(file.ids.tolist(), file.sha256, strict=True))
            merged = {(composed(name), one.tobytes()) for name, one in rows}
        done = np.flatnonzero(old.good().any(axis=1) & ~old.failed)
        ids, digests = old.ids[done].tolist(), old.sha256[done]
        lost = [name for name, one in zip(ids, digests, strict=True) if (composed(name), one.tobytes()) not in merged]
    if lost:
        raise CodesFileError(
            f"{target}: is there already, and {len(lost)} of its rows with codes would go: {by_folder(lost)}. Choose "
            f"another place with {parameter('out')}, or delete it"
        )
