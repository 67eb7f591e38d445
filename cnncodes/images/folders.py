"""Images below a folder, labelled by the folders that they lie in."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cnncodes.errors import ImagesError
from cnncodes.images.files import HEIC_SUFFIXES, as_text, image_suffixes, reason_of, some_names, unreadable
from cnncodes.images.formats import HEIC_ADVICE
from cnncodes.images.image_set import EXPECTED, ImageSet
from cnncodes.images.layouts import masks_in, read_layout
from cnncodes.names import composed

__all__ = ["from_folder"]

IGNORED = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"})


def from_folder(root: Path, labelled: bool) -> ImageSet:
    """Return the images below a folder, labelled by the folders that they lie in unless `labelled` is False.

    Raises
    ------
    ImagesError
        There are no images, the folder cannot be listed, or it is not clear which folders are classes.
    """
    walk = _Walk(root)
    if not walk.files:
        what = "; ".join(walk.notes())
        raise ImagesError(f"{root}: there are no images in it{f' ({what})' if what else ''}; {EXPECTED}")
    masks = masks_in(list(walk.files)) if labelled else {}
    names = sorted(walk.files.keys() - masks.keys(), key=lambda name: (composed(name), name))
    images = ImageSet(
        ids=[as_text(name) for name in names],
        sources=[Path(walk.files[name]) for name in names],
        root=root,
        failures={as_text(name): walk.failures[name] for name in names if name in walk.failures},
        notes=walk.notes(),
        left_out={as_text(name): Path(walk.files[name]) for name in masks},
    )
    if masks:
        folders = some_names(sorted(set(masks.values())))
        images.notes.append(f"masks left out: {len(masks)}, in {folders}; call a folder otherwise if it is a class")
    if labelled:
        # An unreadable folder stands for the images in it.
        places = [composed(f"{name}/?" if name in walk.locked else name) for name in names]
        layout = read_layout(root, [place.split("/") for place in places])
        images.labels, images.splits = layout.labels, layout.splits
        images.notes += layout.notes
    return images


class _Walk:
    """All image files below a folder. Every folder is entered once, and by its own name rather than by a link."""

    def __init__(self, root: Path) -> None:
        self.files: dict[str, str] = {}  # full path by path relative to the root
        self.failures: dict[str, str] = {}
        self.locked: set[str] = set()
        self._folders: set[str] = set()
        self._skipped: Counter[str] = Counter()
        self._suffixes = image_suffixes()
        self._again: list[str] = []
        self._broken: list[str] = []
        self._hidden = 0
        self._hidden_folders: list[str] = []
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
                    self._again.append(name)
                    continue
                with os.scandir(path) as scan:
                    entries = list(scan)
            except OSError as error:
                if not name:
                    raise ImagesError(f"{path}: the folder cannot be listed: {reason_of(error)}") from error
                self.files[name] = path
                self.failures[name] = f"the folder cannot be listed, its images are missing: {reason_of(error)}"
                self.locked.add(name)
                continue
            self._seen.add(key)
            self._folders.add(name)
            for entry in entries:
                inner = f"{name}/{entry.name}" if name else entry.name
                if self._is_folder(entry, inner):
                    (links if entry.is_symlink() else stack).append((inner, entry.path))
        return links

    def _is_folder(self, entry: os.DirEntry[str], name: str) -> bool:
        """Whether an entry is a folder to be entered; a file is recorded as an image, as skipped or as hidden."""
        suffix = os.path.splitext(entry.name)[1].lower()
        is_image = suffix in self._suffixes
        if entry.name.startswith(".") or entry.name.lower() in IGNORED:
            self._hidden += is_image
            if entry.is_dir(follow_symlinks=False):
                self._hidden_folders.append(name)
            return False
        try:
            mode = entry.stat().st_mode
        except OSError:
            mode = 0
        if stat.S_ISDIR(mode):
            return True
        if not is_image:
            if mode:
                self._skipped[suffix or "no suffix"] += 1
            else:
                self._broken.append(name)
            return False
        self.files[name] = entry.path
        if reason := unreadable(entry.path):
            self.failures[name] = reason
        return False

    def notes(self) -> list[str]:
        """Return what was left out, a line for each kind."""
        with_images = {folder for name in self.files for folder in _above(name)}
        forms = Counter(composed(folder) for folder in self._folders)
        empty = [folder for folder in self._folders - with_images if not ({*_above(folder)} - {""} - with_images)]
        notes = [f"{some_names([name])}: {self.failures[name]}" for name in sorted(self.locked)]
        for what, names in (
            ("folders without images", [name for name in empty if name]),
            ("links to a folder that is read already, not followed", self._again),
            ("links that lead nowhere", self._broken),
            ("folders that one name in two forms of Unicode has are one", [name for name, n in forms.items() if n > 1]),
            ("folders skipped, hidden or of a system", self._hidden_folders),
        ):
            if names:
                notes.append(f"{what}: {some_names(sorted(names))}")
        skipped = sorted(self._skipped.items())
        if heic := sum(n for suffix, n in skipped if suffix in HEIC_SUFFIXES):
            notes.append(f"HEIC photographs skipped: {heic}; {HEIC_ADVICE}")
        if others := [(suffix, n) for suffix, n in skipped if suffix not in HEIC_SUFFIXES]:
            counts = ", ".join(f"{n} {some_names([suffix])}" for suffix, n in others)
            notes.append(f"files skipped, not images by their names: {counts}")
        if self._hidden:
            notes.append(f"hidden image files skipped: {self._hidden}")
        return notes


def _above(name: str) -> Iterator[str]:
    """Return the folders that a path lies in, the nearest first; the root is an empty string."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
    yield ""
