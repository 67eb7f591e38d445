"""Images below a folder, labelled by the folders that they lie in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cnncodes.errors import ImagesError
from cnncodes.images.files import as_text, reason_of, some_names, unreadable
from cnncodes.images.image_set import EXPECTED, ImageSet
from cnncodes.images.layouts import masks_in, read_layout
from cnncodes.images.walk import Walk
from cnncodes.names import composed

__all__ = ["from_folder", "from_walk"]


def from_folder(root: Path, labelled: bool) -> ImageSet:
    """Return the images below a folder, labelled by the folders that they lie in unless `labelled` is False.

    Raises
    ------
    ImagesError
        There are no images, the folder cannot be listed, or it is not clear which folders are classes.
    """
    return from_walk(_FolderWalk(root), root, labelled)


def from_walk(walk: Walk, root: Path | str, labelled: bool) -> ImageSet:
    """Return the images that a walk has met; wherever they lie, their folders mean the same.

    Parameters
    ----------
    walk : Walk
    root : Path or str
        The folder, or its URL.
    labelled : bool

    Raises
    ------
    ImagesError
        There are no images, or it is not clear which folders are classes.
    """
    if not walk.sources:
        what = "; ".join(walk.notes())
        raise ImagesError(f"{root}: there are no images in it{f' ({what})' if what else ''}; {EXPECTED}")
    mask_folders = masks_in([walk.place(name) for name in walk.sources]) if labelled else {}
    masks = {name: mask_folders[place] for name in walk.sources if (place := walk.place(name)) in mask_folders}
    names = sorted(walk.sources.keys() - masks.keys(), key=lambda name: (composed(name), name))
    images = ImageSet(
        ids=[as_text(name) for name in names],
        sources=[walk.sources[name] for name in names],
        root=root,
        failures={as_text(name): walk.failures[name] for name in names if name in walk.failures},
        notes=walk.notes(),
        left_out={as_text(name): walk.sources[name] for name in masks},
    )
    if masks:
        folders = some_names(sorted(set(masks.values())))
        images.notes.append(f"masks left out: {len(masks)}, in {folders}; call a folder otherwise if it is a class")
    if labelled:
        # An unreadable folder stands for the images in it.
        places = [composed(f"{walk.place(name)}/?" if name in walk.locked else walk.place(name)) for name in names]
        layout = read_layout(root, [place.split("/") for place in places])
        images.labels, images.splits = layout.labels, layout.splits
        images.notes += layout.notes
    return images


class _FolderWalk(Walk):
    """A walk on the disk. Every folder is entered once, and by its own name rather than by a link."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._seen: set[tuple[int, int]] = set()
        links = self._enter("", os.fspath(root))
        while links:
            links.sort()
            links += self._enter(*links.pop(0))

    def _enter(self, start: str, path: str) -> list[tuple[str, str]]:
        """Walk a folder without following links; return the links to folders that were met."""
        links: list[tuple[str, str]] = []
        stack = [(start, path)]
        while stack:
            name, path = stack.pop()
            try:
                status = os.stat(path)
                if (key := (status.st_dev, status.st_ino)) in self._seen:
                    self.again.append(name)
                    continue
                with os.scandir(path) as scan:
                    entries = list(scan)
            except OSError as error:
                if not name:
                    raise ImagesError(f"{path}: the folder cannot be listed: {reason_of(error)}") from error
                self.lock(name, Path(path), reason_of(error))
                continue
            self._seen.add(key)
            self.folders.add(name)
            for entry in entries:
                inner = f"{name}/{entry.name}" if name else entry.name
                if self._is_folder(entry, inner):
                    (links if entry.is_symlink() else stack).append((inner, entry.path))
        return links

    def _is_folder(self, entry: os.DirEntry[str], name: str) -> bool:
        """Whether an entry is a folder to be entered; a file is recorded as an image, as skipped or as hidden."""
        if self.passes_over(name, is_folder=entry.is_dir(follow_symlinks=False)):
            return False
        try:
            mode = entry.stat().st_mode
        except OSError:
            mode = 0
        if stat.S_ISDIR(mode):
            return True
        if not self.is_image(name):
            if mode:
                self.skip(name)
            else:
                self.broken.append(name)
            return False
        self.sources[name] = Path(entry.path)
        if reason := unreadable(entry.path):
            self.failures[name] = reason
        return False
