"""Images in ZIP and tar archives, and in WebDatasets, read as they are: nothing is ever unpacked to a disk."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnncodes.errors import ImagesError
from cnncodes.images.archive_file import Archive, Entry
from cnncodes.images.archive_names import ArchiveNames, chained, is_archive_name
from cnncodes.images.files import as_text, some_names
from cnncodes.images.folders import from_walk
from cnncodes.images.image_set import ImageSet
from cnncodes.images.layouts import MASKS
from cnncodes.images.network import asking_threads, file_system, listing_errors
from cnncodes.images.stored_file import StoredFile
from cnncodes.images.tar_entries import TarEntries
from cnncodes.images.tar_members import TarMember
from cnncodes.images.walk import Walk
from cnncodes.images.webdataset import SampleLabels, key_of
from cnncodes.images.zip_members import ZipMember, zip_entries
from cnncodes.urls import base_of, is_url, public_url
from cnncodes.vocabulary import split_of

__all__ = ["ArchiveMembers", "from_archives"]

FOLDER_ENDS = re.compile("/|$")
NUMBER = re.compile(r"[ _.-]*\d|\.")  # from where on the name of an archive says nothing of its split
MAX_NAME_LENGTH = 4096  # letters; no system can unpack a file with a longer name
LISTERS = 16  # remote archives whose lists are read at a time
MAX_LINKS = 8  # that lead to each other, before a link counts as one that leads nowhere
SEGMENTATIONS = MASKS | {"seg", "segmentation"}  # in WebDatasets: 0001.jpg, 0001.seg.png


def from_archives(names: ArchiveNames, labelled: bool) -> ImageSet:
    """Return the images in archives, labelled by WebDataset's files, or else by the folders in them.

    Parameters
    ----------
    names : ArchiveNames
    labelled : bool
        As for `load_images`.

    Raises
    ------
    ImagesError
        An archive cannot be read; there are no images; or it is not clear which folders are classes.
    """
    walk = _ArchiveWalk(names)
    root = public_url(names.root) if is_url(names.root) else Path(names.root)
    if labelled and walk.labels.suffix:
        images = _as_samples(from_walk(walk, root, labelled=False), walk)
    else:
        images = from_walk(walk, root, labelled)
    images.notes[:0] = names.notes
    images = _in_order_of_reading(images, walk.archives)
    for name, (archive, damage) in walk.damaged.items():
        _add_damaged(images, name, archive, damage)
    return images


class ArchiveMembers:
    """Images in archives that are named one by one, as ``zip://cat/1.png::photos.zip``; each archive is listed once.

    Parameters
    ----------
    folder : str, default=""
        What local archives are relative to; by default the working folder.
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._walks: dict[str, _ArchiveWalk] = {}

    def find(self, url: str) -> ZipMember | TarMember | None:
        """Return the image that a chained URL names; None if it is no such URL.

        Raises
        ------
        ImagesError
            The archive cannot be read, or has no such image.
        """
        if (chain := chained(url)) is None:
            return None
        inner, place = chain
        path = place if is_url(place) else os.path.join(self._folder, place)
        if path not in self._walks:
            self._walks[path] = _ArchiveWalk(ArchiveNames(path, [path], [""]))
        file = self._walks[path].sources.get(inner)
        if not isinstance(file, (ZipMember, TarMember)):
            raise ImagesError(f"{public_url(url)}: the archive has no such image")
        if reason := self._walks[path].failures.get(inner):
            raise ImagesError(f"{public_url(url)}: {reason}")
        return file


class _ArchiveWalk(Walk):
    """A walk through what archives list."""

    def __init__(self, names: ArchiveNames) -> None:
        super().__init__()
        self.archives: list[Archive] = []
        self.labels = SampleLabels()
        self.damaged: dict[str, tuple[Archive, str]] = {}  # archives whose list ends too early, and why
        self._within = [part for part in names.within.split("/") if part]
        self._is_several = any(names.names)
        self._splits = _splits_of(names)
        self._is_read: dict[str, bool] = {}  # of each folder, whether it and all that it lies in are not hidden
        self._others: dict[str, StoredFile] = {}  # files that are no images by their names; links may lead to them
        self._repeated: list[str] = []
        self._too_long = 0
        self._remarks: list[str] = []
        for url in {base_of(path): path for path in names.paths if is_url(path) and "::" not in path}.values():
            file_system(url).invalidate_cache()  # what it has kept of an earlier listing may have changed
        with asking_threads(LISTERS) as pool:  # a pass over the headers of a remote archive is many requests
            listings = pool.map(_listing, names.paths) if any(map(is_url, names.paths)) else map(_listing, names.paths)
            for prefix, (archive, entries, reader) in zip(names.names, listings, strict=True):
                self._enter(prefix, archive, entries)
                self._look_for_damage(prefix, archive, reader)
        if self._within and not self.sources:
            raise ImagesError(f"{names.root}: no images in {some_names([names.within])} in it")

    def place(self, name: str) -> str:
        """Return where an image lies, without the archive that it lies in."""
        if not self._is_several:
            return name
        parts = name.split("/")
        at = next(at for at, part in enumerate(parts) if is_archive_name(part))
        inner = parts[at + 1 :]
        return "/".join([self._splits[parts[at]], *inner] if self._splits else [*parts[:at], *inner])

    def notes(self) -> list[str]:
        """Return what was left out, a line for each kind."""
        notes = self._remarks + super().notes()
        if self._repeated:
            notes.append(f"names that an archive has more than once, the last counts: {some_names(self._repeated)}")
        if self._too_long:
            notes.append(f"files skipped, their names are longer than {MAX_NAME_LENGTH:,} letters: {self._too_long}")
        return notes

    def _enter(self, prefix: str, archive: Archive, entries: Iterable[Entry]) -> None:
        """Record what an archive lists."""
        self.archives.append(archive)
        links: dict[str, Entry] = {}
        for entry in entries:
            if (inner := self._inner(entry.name, entry.kind)) is None:
                continue
            name = prefix + inner
            if not self._reads(name if entry.kind == "folder" else name.rpartition("/")[0]):
                continue
            if entry.kind == "folder" or self.passes_over(name, is_folder=False):
                continue
            if entry.kind == "link":
                links[name] = entry
            elif entry.content is not None:
                self.labels.add(as_text(name), entry.content)
            else:
                self._add(name, entry)
        for name in links:
            self._follow(name, prefix, links)

    def _look_for_damage(self, prefix: str, archive: Archive, entries: Iterable[Entry]) -> None:
        """Record that an archive, whose list was read, ends too early."""
        if isinstance(entries, TarEntries):
            self._remarks += [entries.note] * bool(entries.note)
            if entries.damage:
                name = as_text(prefix.rstrip("/") or archive.name)
                self.damaged[name] = archive, entries.damage
                self._remarks.append(f"{name}: {entries.damage}; what comes after it is missing")

    def _inner(self, name: str, kind: str) -> str | None:
        """Return a name relative to the folder that is meant, without what would lead out of it; None if it is none."""
        if len(name) > MAX_NAME_LENGTH:
            self._too_long += 1
            return None
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        if depth := len(self._within):
            if parts[:depth] != self._within:
                return None
            parts = parts[depth:] or (parts[-1:] if kind != "folder" else [])
        return "/".join(parts) or None

    def _reads(self, folder: str) -> bool:
        """Whether a folder, and all that it lies in, is not hidden; each is recorded once."""
        if folder not in self._is_read:
            is_read = True
            for end in [match.start() for match in FOLDER_ENDS.finditer(folder)]:
                above = folder[:end]
                if above not in self._is_read:
                    self._is_read[above] = is_read and not self.passes_over(above, is_folder=True)
                    if self._is_read[above]:
                        self.folders.add(above)
                is_read = self._is_read[above]
        return self._is_read[folder]

    def _add(self, name: str, entry: Entry) -> None:
        """Record a file; of several with one name the last counts, as it does for programs that unpack archives."""
        if not self.is_image(name):
            self.skip(name)
            if not entry.failure:
                self._others[name] = entry.file
            return
        if name in self.sources:
            self._repeated.append(name)
        self.sources[name] = entry.file
        self.failures.pop(name, None)
        if entry.failure:
            self.failures[name] = entry.failure

    def _follow(self, name: str, prefix: str, links: Mapping[str, Entry]) -> None:
        """Record a link as the file that it leads to, if that is in the same archive."""
        target, place = links[name].target, name
        for _ in range(MAX_LINKS):
            place = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
            if target.startswith("/") or not f"{place}/".startswith(prefix) or place not in links:
                break
            target = links[place].target
        files: Any = self._others if place in self._others else self.sources
        file = None if target.startswith("/") else files.get(place)
        if file is None and place in self.folders:
            self.again.append(name)
        elif file is None and not self.is_image(name):
            self.broken.append(name)
        else:
            failure = self.failures.get(place, "") if file else "a link to a file that is not in the archive"
            self._add(name, Entry(name, file or links[name].file, failure=failure))


def _listing(path: str) -> tuple[Archive, Iterable[Entry], Iterable[Entry]]:
    """Return an archive, what it lists, and what reads the list; of a remote one, the list is read at once."""
    archive = Archive(path)
    reader = zip_entries(archive) if archive.is_zip else TarEntries(archive)
    if not archive.is_remote:
        return archive, reader, reader
    with listing_errors(path):
        return archive, list(reader), reader


def _splits_of(names: ArchiveNames) -> dict[str, str]:
    """Return the split that each archive names, as ``train-0001.tar``; nothing if not all of them name one."""
    files = [name.rstrip("/").rpartition("/")[2] for name in names.names]
    splits = {file: split for file in files if (split := split_of(NUMBER.split(file, maxsplit=1)[0])) is not None}
    return splits if len(splits) == len(set(files)) else {}


def _as_samples(images: ImageSet, walk: _ArchiveWalk) -> ImageSet:
    """Return the images of a WebDataset with the labels and splits that it has for them, without its masks."""
    keys = [key_of(name)[0] for name in images.ids]
    n_images = Counter(keys)
    is_mask = [n_images[key] > 1 and _is_mask(name) for key, name in zip(keys, images.ids, strict=True)]
    rows = [row for row, mask in enumerate(is_mask) if not mask]
    if len(rows) < len(images) and rows:
        masks: dict[str, Any] = {images.ids[row]: images.sources[row] for row, mask in enumerate(is_mask) if mask}
        images, keys = images.take(rows), [keys[row] for row in rows]
        images.left_out |= masks
        images.notes.append(f"masks left out: {len(masks)}, as {some_names(sorted(masks))}")
        n_images = Counter(keys)
    images.labels = [walk.labels.of(key) for key in keys]
    images.notes.append(f"labels are those of the {walk.labels.suffix} files beside the images")
    if without := [name for name, label in zip(images.ids, images.labels, strict=True) if not label]:
        images.notes.append(f"images without such a file, which have no label: {some_names(without)}")
    if max(n_images.values()) > 1:
        images.groups = keys
        images.notes.append("several images have one key: they are a group, which stays on one side of a split")
    splits = [split_of(place[0]) if len(place := walk.place(name).split("/")) > 1 else None for name in images.ids]
    if all(splits):
        images.splits = [split or "" for split in splits]
    return images


def _is_mask(name: str) -> bool:
    """Whether a file of a sample is a mask of another one, as 0001.seg.png of 0001.jpg."""
    return key_of(name)[1].partition(".")[0] in SEGMENTATIONS


def _in_order_of_reading(images: ImageSet, archives: Sequence[Archive]) -> ImageSet:
    """Put images of compressed archives in the order in which they lie there: other ones are read again and again."""
    if not any(archive.is_compressed for archive in archives):
        return images
    place_of = {archive.path: place for place, archive in enumerate(archives)}
    files: list[Any] = list(images.sources)
    order = sorted(range(len(files)), key=lambda row: (place_of[files[row].archive.path], files[row].offset))
    ordered = images.take(order)
    ordered.left_out = images.left_out
    return ordered


def _add_damaged(images: ImageSet, name: str, archive: Archive, damage: str) -> None:
    """Let an archive stand for the images that are missing because it is damaged, as an image that failed."""
    images.ids.append(name)
    images.sources = [*images.sources, TarMember(archive, 0, 0, 0)]
    images.failures[name] = f"the archive cannot be read to its end, its images are missing: {damage}"
    for column in (images.labels, images.groups, images.splits):
        if column is not None:
            column.append("")
