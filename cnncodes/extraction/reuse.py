"""Matches images with the rows of an existing codes file: which codes are kept, and which would be lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.errors import CodesFileError, DecodeError, parameter
from cnncodes.extraction.sources import digests_of
from cnncodes.extraction.stamps import NO_STAMP, file_stamp, image_table, is_stamped
from cnncodes.images.loading import ImageSet
from cnncodes.names import RowsByName

__all__ = ["Reuse", "by_folder", "match_rows"]

FOLDERS_SHOWN = 3


@dataclass
class Reuse:
    """The rows of a new codes file, and which row of the old one has the codes of each.

    Attributes
    ----------
    images : ImageSet
        An image for each row; the source is None where the row is only kept.
    table : ImageTable
    twins : dict of int to int
        For rows of the new file: the row of the old file whose image has the same bytes.
    same_set : bool
        Whether the old file holds at least one of these images.
    unchanged : bool
        Whether the old file has exactly these rows, and its codes belong to them.
    notes : list of str
    stamp : tuple of int
        Inode and time of change of the old file; zeros if there is none.
    """

    images: ImageSet
    table: ImageTable
    twins: dict[int, int] = field(default_factory=dict)
    same_set: bool = True
    unchanged: bool = False
    notes: list[str] = field(default_factory=list)
    stamp: tuple[int, int] = (0, 0)

    @property
    def kept(self) -> int:
        """Number of rows that are kept although their images are not given."""
        return sum(source is None for source in self.images.sources)


@dataclass
class _OldRows:
    """What the old file has: its table, the digest of each row, and the rows that hold codes."""

    table: ImageTable
    digests: list[bytes]
    done: list[int]

    def names(self, rows: Iterable[int]) -> list[str]:
        """Return the ids of some rows."""
        return [self.table.ids[row] for row in rows]


def match_rows(out: Path, images: ImageSet, *, prune: bool = False, add: bool = False) -> Reuse:
    """Match images with the rows of an existing codes file.

    Images are the same if name, size and time are the same, or else if their bytes are: a renamed image is not lost.
    Rows without codes, pending or failed, never count as lost.

    Parameters
    ----------
    out : Path
    images : ImageSet
    prune : bool, default=False
        Drop the rows of images that are gone.
    add : bool, default=False
        Keep all rows, and add those of new images.

    Returns
    -------
    Reuse

    Raises
    ------
    CodesFileError
        Rows that hold codes would be lost, and `prune` is False; or, with `add`, a name stands for two images.
    """
    stamp = file_stamp(out)
    with CodesFile.open(out) as old:
        damaged = [] if add else old.damaged_columns()  # rows that are only kept need theirs: reading them will raise
        old_table = old.salvaged_table() if damaged else old.table
        images = images if prune else _with_left_out(images, old_table.ids)
        table = image_table(images)
        if not damaged and old_table == table and all(is_stamped(source) for source in images.sources):
            same = {row: row for row in np.flatnonzero(~old.failed).tolist()}
            return Reuse(images, table, same, unchanged=True, stamp=stamp)
        digests = [digest.tobytes() for digest in old.sha256]
        old_rows = _OldRows(old_table, digests, np.flatnonzero(old.good().any(axis=1) & ~old.failed).tolist())
    twins, unread = _twins(images, table, old_rows)
    here = RowsByName(table.ids)
    gone, changed = _without_place(here, old_rows, twins, unread)
    if add:
        if changed:
            names = _counted(old_rows.names(changed))
            raise CodesFileError(
                f"{out}: with {parameter('add', True)} {names} would stand for two images, as names count from "
                "the folder that is given. Rename what is new, give one folder that holds both, or choose another "
                f"file with {parameter('out')}"
            )
        plan = _with_kept(images, table, here, old_rows, twins)
    else:
        if not twins:  # other images, though some have the same names
            gone, changed = sorted(gone + changed), []
        lost = f"of images that are not among those given: {by_folder(old_rows.names(gone))}"
        if gone and not prune:
            raise CodesFileError(
                f"{out}: {_rows(len(gone))} with codes would go, {lost}. Choose another file with "
                f"{parameter('out')}; or keep both with {parameter('add', True)}, or drop what is gone with "
                f"{parameter('prune', True)}"
            )
        plan = Reuse(images, table, twins)
        plan.same_set = bool(twins) or (not old_rows.done and any(name in here for name in old_rows.table.ids))
        plan.notes += [f"{_rows(len(gone))} with codes dropped, {lost}"] * bool(gone)
        if new_bytes := [name for name in old_rows.names(changed) if here[name] not in twins]:
            plan.notes.append(f"{_counted(new_bytes)} changed since the codes were computed: computed anew")
    plan.notes += [f"{' and '.join(damaged)} of {out} were damaged: written anew"] * bool(damaged)
    plan.unchanged = (
        not damaged and plan.table == old_rows.table and all(plan.twins.get(row) == row for row in old_rows.done)
    )
    plan.stamp = stamp
    return plan


def _with_left_out(images: ImageSet, old_ids: Sequence[str]) -> ImageSet:
    """Add files that are left out now, as masks, but have rows in an older codes file; they get no label."""
    if not (names := [name for name in old_ids if name in images.left_out]):
        return images
    rows = sorted([*zip(images.ids, range(len(images)), strict=True), *((name, -1) for name in names)])
    columns: dict[str, Any] = {
        column: [values[row] if row >= 0 else "" for _, row in rows]
        for column in ("labels", "groups", "splits")
        if (values := getattr(images, column)) is not None
    }
    sources = [images.sources[row] if row >= 0 else images.left_out[name] for name, row in rows]
    columns["notes"] = [*images.notes, f"of the masks, {len(names)} are in the codes file: they stay, without labels"]
    return ImageSet([name for name, _ in rows], sources, root=images.root, failures=images.failures, **columns)


def _twins(images: ImageSet, table: ImageTable, old_rows: _OldRows) -> tuple[dict[int, int], set[int]]:
    """Return the old row with the same bytes for each new row that has one, and the new rows that cannot be read."""
    by_id = RowsByName(old_rows.names(old_rows.done), old_rows.done)
    by_digest = {old_rows.digests[row]: row for row in old_rows.done}
    twins: dict[int, int] = {}
    unread = set()
    unsure = []  # their bytes must tell
    for row, name in enumerate(table.ids):
        twin = by_id.get(name)
        if twin is None or table.stamp(row) == NO_STAMP or old_rows.table.stamp(twin) != table.stamp(row):
            unsure.append(row)
        else:
            twins[row] = twin
    for row, digest in zip(unsure, digests_of(images, unsure), strict=True):
        if isinstance(digest, DecodeError):
            unread.add(row)
            continue
        twin = by_id.get(table.ids[row])
        if twin is None or old_rows.digests[twin] != digest:
            twin = by_digest.get(digest)
        if twin is not None:
            twins[row] = twin
    return dict(sorted(twins.items())), unread


def _without_place(
    here: RowsByName, old_rows: _OldRows, twins: Mapping[int, int], unread: set[int]
) -> tuple[list[int], list[int]]:
    """Return the old rows with codes whose images are gone, and those whose names stand for other bytes now.

    As many rows of the same bytes are taken to be renamed as there are new names with these bytes.
    """
    new_places = Counter(old_rows.digests[twin] for twin in twins.values())
    gone, changed = [], []
    for row, name in zip(old_rows.done, old_rows.names(old_rows.done), strict=True):
        twin = twins.get(here.get(name, -1))
        if twin is not None and old_rows.digests[twin] == old_rows.digests[row]:
            new_places[old_rows.digests[row]] -= 1
        elif name in here and here[name] not in unread:
            changed.append(row)
        else:
            gone.append(row)
    not_renamed = []
    for row in gone:
        if new_places[old_rows.digests[row]] > 0:
            new_places[old_rows.digests[row]] -= 1
        else:
            not_renamed.append(row)
    return not_renamed, changed


def _with_kept(
    images: ImageSet, table: ImageTable, here: RowsByName, old_rows: _OldRows, twins: Mapping[int, int]
) -> Reuse:
    """Put the old rows that hold codes first, in their order, and the new images behind them.

    Given images bring their labels, groups and splits; the other rows stay as they are.
    """
    done, placed = set(old_rows.done), set[int]()
    rows: list[tuple[int, int | None]] = []  # row of the old table or -1, and of the images if it is given
    for row, name in enumerate(old_rows.table.ids):
        at = here.get(name)
        if at is not None:
            placed.add(at)
        if row in done:
            rows.append((row, at if at in twins else None))
        elif at is not None:
            rows.append((row, at))
    rows += [(-1, at) for at in range(len(table)) if at not in placed]

    def column(name: str) -> list[Any]:
        old, new = getattr(old_rows.table, name), getattr(table, name)
        old, new = old or [""] * len(old_rows.table), new or [""] * len(table)
        return [old[row] if at is None else new[at] for row, at in rows]

    joined = ImageTable(**{name: column(name) for name in ("ids", "labels", "groups", "splits", "sizes", "changed")})
    sources: list[Any] = [None if at is None else images.sources[at] for _, at in rows]
    every = ImageSet(joined.ids, sources, root=images.root, failures=images.failures, notes=images.notes)
    plan = Reuse(every, joined)
    for place, (row, at) in enumerate(rows):
        if at is None or at in twins:
            plan.twins[place] = row if at is None else twins[at]
    if kept := [row for row, at in rows if at is None]:
        plan.notes.append(f"{_rows(len(kept))} of other images kept: {by_folder(old_rows.names(kept))}")
    return plan


def by_folder(ids: Iterable[str]) -> str:
    """Count ids by folder; name the first of those that lie in none.

    Examples
    --------
    >>> by_folder(["a/1.png", "a/2.png", "b/1.png", "3.png"])
    "2 of 'a', 1 of 'b', '3.png'"
    """
    ids = list(ids)
    if len(ids) == 1:
        return repr(ids[0])
    folders: Counter[str] = Counter()
    loose = []
    for name in ids:
        if "/" in name:
            folders[name.rpartition("/")[0]] += 1
        else:
            loose.append(name)
    shown = folders.most_common(FOLDERS_SHOWN)
    parts = [f"{count} of {folder!r}" for folder, count in shown]
    if len(folders) > len(shown):
        rest = folders.total() - sum(count for _, count in shown)
        parts.append(f"{rest} of {len(folders) - len(shown)} other folders")
    if loose:
        parts.append(repr(loose[0]) + f" and {len(loose) - 1} beside it" * (len(loose) > 1))
    return ", ".join(parts)


def _counted(ids: list[str]) -> str:
    return f"{ids[0]!r}" if len(ids) == 1 else f"{len(ids)} names, the first is {ids[0]!r},"


def _rows(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"
