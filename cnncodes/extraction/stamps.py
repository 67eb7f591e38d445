"""Sizes and times of files: what tells, before a byte is read, that an image or a codes file is the same as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnncodes.codes.layout import ImageTable
from cnncodes.images.loading import ImageSet
from cnncodes.images.remote import fetch_stamps
from cnncodes.images.stored_file import StoredFile

__all__ = ["NO_STAMP", "file_stamp", "image_table", "is_stamped"]

NO_STAMP = (-1, -1)  # size and time where they tell nothing


def image_table(images: ImageSet) -> ImageTable:
    """Return what a codes file holds about these images, with size and time of their files."""
    fetch_stamps(images.sources)
    stats = [_stat(source) for source in images.sources]
    return ImageTable(
        images.ids,
        images.labels,
        images.groups,
        images.splits,
        sizes=[size for size, _ in stats],
        changed=[changed for _, changed in stats],
    )


def is_stamped(source: Any) -> bool:
    """Whether size and time tell that an image is the same."""
    return isinstance(source, Path) or (isinstance(source, StoredFile) and source.changed >= 0)


def _stat(source: Any) -> tuple[int, int]:
    if isinstance(source, StoredFile):
        return (source.size, source.changed) if source.changed >= 0 else NO_STAMP
    if isinstance(source, Path):
        try:
            stat = source.stat()
            return stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns)  # the second also tells of a file moved here
        except OSError:
            pass
    return NO_STAMP


def file_stamp(path: Path) -> tuple[int, int]:
    """Return inode and time of change of a file: they change when it is made, replaced or written to."""
    if not path.exists():
        return 0, 0
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns
