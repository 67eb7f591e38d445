"""Deals images out to the parts of a sharded extraction, and puts them back in order when the parts are merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance, refuse_mismatch
from cnncodes.codes.provenance_parts import ShardProvenance
from cnncodes.errors import CodesFileError, SettingError, parameter
from cnncodes.images.image_set import ImageSet

__all__ = ["joined_table", "refuse_other_part", "shard_of", "table_digests"]


def shard_of(images: ImageSet, shard: tuple[int, int]) -> tuple[ImageSet, ShardProvenance]:
    """Deal the images out to the parts in turn; return one part, and its record.

    Raises
    ------
    SettingError
        There is no such part, or there are more parts than images.
    """
    part, of = shard
    if not 1 <= part <= of:
        raise SettingError(f"there is no part {part} of {of}; parts are counted from 1")
    if of > len(images):
        raise SettingError(f"{len(images)} images do not make {of} parts; ask for fewer")
    digest = table_digests(ImageTable(images.ids, images.labels, images.groups, images.splits))[0]
    return images.take(range(part - 1, len(images), of)), ShardProvenance(part=part, of=of, images=digest)


def table_digests(table: ImageTable) -> tuple[str, str]:
    """Return the digest of the images of all parts, whatever form of Unicode their names have.

    The second one is that of a Mac's names in files of before there was one digest for all forms.
    """

    def digest(form: Literal["NFC", "NFD"]) -> str:
        columns = (table.ids, table.labels or [], table.groups or [], table.splits or [])
        ids, labels, groups, splits = ([normalize(form, name) for name in column] for column in columns)
        return ImageTable(ids, labels, groups, splits).digest()

    return digest("NFC"), digest("NFD")


def refuse_other_part(out: Path, old: Provenance, shard: ShardProvenance | None, *, add: bool) -> None:
    """Refuse to turn `out` into another part, and to add images to a part.

    Raises
    ------
    MismatchError
        `out` is another part, or no part; or it is a part, and `shard` is None.
    CodesFileError
        Images would be added to a part.
    """
    refuse_mismatch(out, old, old.with_shard(shard))
    if shard is not None and add:
        raise CodesFileError(
            f"{out}: a part of a sharded extraction holds that part alone; merge the parts, then extract with "
            f"{parameter('add', True)}"
        )


def joined_table(tables: Sequence[ImageTable]) -> ImageTable:
    """Return the table of all images, given those of the parts in order."""
    n = sum(len(table) for table in tables)

    def dealt_back(columns: Sequence[Sequence[Any]]) -> list[Any]:
        rows: list[Any] = [None] * n
        for start, column in enumerate(columns):
            rows[start :: len(tables)] = column
        return rows

    texts = {
        name: dealt_back([getattr(table, name) or [""] * len(table) for table in tables])
        for name in ("labels", "groups", "splits")
    }
    numbers = {name: dealt_back([getattr(table, name) for table in tables]) for name in ("sizes", "changed")}
    return ImageTable(dealt_back([table.ids for table in tables]), **texts, **numbers)
