"""Images in ZIP and tar archives, and in WebDatasets, read as they are: nothing is ever unpacked to a disk."""

from __future__ import annotations

import posixpath
from collections import Counter
from pathlib import Path

from cnncodes.errors import ImagesError
from cnncodes.images.archive_file import ZIP, Archive, Entry
from cnncodes.images.archive_names import ArchiveNames, is_archive_name
from cnncodes.images.files import as_text, some_names
from cnncodes.images.folders import from_walk
from cnncodes.images.image_set import ImageSet
from cnncodes.images.layouts import MASKS
from cnncodes.images.stored_file import StoredFile
from cnncodes.images.tar_entries import TarEntries
from cnncodes.images.tar_streams import StreamMember
from cnncodes.images.urls import is_url, public_url
from cnncodes.images.walk import Walk
from cnncodes.images.webdataset import LABEL_SUFFIXES, SampleLabels, key_of
from cnncodes.images.zip_members import zip_entries
from cnncodes.vocabulary import split_of

__all__ = ["from_archives"]

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
        images = from_walk(walk, root, labelled=False)
        _label(images, walk)
    else:
        images = from_walk(walk, root, labelled)
    images.notes[:0] = names.notes
    images = _in_order_of_reading(images, walk.archives)
    for name, (archive, damage) in walk.damaged.items():
        _add_damaged(images, name, archive, damage)
    return images


class _ArchiveWalk(Walk):
    """A walk through what archives list."""

    def __init__(self, names: ArchiveNames) -> None:
        super().__init__()
        self.archives: list[Archive] = []
        self.labels = SampleLabels()
        self.damaged: dict[str, tuple[Archive, str]] = {}  # archives that end too early, and why
        self.remarks: list[str] = []
        self._within = names.within
        self._is_several = any(names.names)
        self._hidden_in: dict[str, bool] = {}  # whether each folder is hidden
        self._others: dict[str, StoredFile] = {}  # files that are no images by their names: links may lead to them
        self._repeated: Counter[str] = Counter()
        for path, prefix in zip(names.paths, names.names, strict=True):
            self._enter(Archive(path), prefix)
        if self._within and not self.sources and not self.folders:
            raise ImagesError(f"{names.root}: there is no {some_names([self._within])} in it")
