"""What tar archives list: one pass over their headers."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cnncodes.errors import ImagesError
from cnncodes.images.archive_file import Archive, Entry
from cnncodes.images.files import MAX_BYTES
from cnncodes.images.tar_headers import FOLDER, HARD_LINK, LINK, REGULAR, Header, TarReader
from cnncodes.images.tar_members import CUT_OFF, TarMember
from cnncodes.images.tar_streams import StreamMember
from cnncodes.images.webdataset import LABEL_SUFFIXES, MAX_LABEL_BYTES

__all__ = ["TarEntries"]

SPARSE = "stored without its holes (a sparse file), which is not read; write the archive with holes"
NOT_REGULAR = "not a regular file (a pipe, socket or device), never opened"


class TarEntries:
    """What a tar archive lists; iterate over it once.

    Parameters
    ----------
    archive : Archive

    Attributes
    ----------
    damage : str
        Once it was iterated over: where and why the list ended before the end of the archive; or empty.
    note : str
        Once it was iterated over: a remark on the archive; or empty.

    Raises
    ------
    ImagesError
        While it is iterated over: it is no tar archive.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._files: dict[str, TarMember] = {}  # for hard links
        self.damage = self.note = ""

    def __iter__(self) -> Iterator[Entry]:
        archive = self._archive
        with archive.open() as stream:
            reader = TarReader(stream, None if archive.is_compressed else archive.size)
            is_empty = True
            for header in reader:
                is_empty = False
                yield self._entry(header, reader)
        if is_empty and reader.damage:
            raise ImagesError(f"{archive}: no tar archive that can be read ({reader.damage})")
        self.damage = reader.damage
        if not reader.ended:
            self.note = f"{archive} has no mark at its end: it may be cut off"

    def _entry(self, header: Header, reader: TarReader) -> Entry:
        member = StreamMember if self._archive.is_compressed else TarMember
        file = member(self._archive, header.offset, header.size, header.crc)
        if header.kind in (FOLDER, LINK):
            return Entry(header.name, file, kind=header.kind, target=header.target)
        if header.kind == HARD_LINK:
            original = self._files.get(posixpath.normpath(header.target))
            failure = "" if original else "a link to a file that is not in the archive"
            return Entry(header.name, original or file, failure=failure)
        if failure := self._failure(header):
            return Entry(header.name, file, failure=failure)
        if header.name.lower().endswith(LABEL_SUFFIXES) and header.size <= MAX_LABEL_BYTES:
            return Entry(header.name, file, content=reader.content(header))
        self._files[posixpath.normpath(header.name)] = file
        return Entry(header.name, file)

    def _failure(self, header: Header) -> str:
        if header.kind != REGULAR:
            return NOT_REGULAR
        if header.is_sparse:
            return SPARSE
        if header.size > MAX_BYTES:
            return f"{header.size:,} bytes, more than the limit of {MAX_BYTES:,}"
        is_inside = self._archive.is_compressed or header.offset + header.size <= self._archive.size
        return "" if is_inside else CUT_OFF
