"""What is met on a walk through folders, on a disk or elsewhere: images by their names, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cnncodes.images.files import HEIC_SUFFIXES, image_suffixes, some_names
from cnncodes.images.formats import HEIC_ADVICE
from cnncodes.images.stored_file import StoredFile
from cnncodes.names import composed

__all__ = ["Walk"]

IGNORED = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"})


class Walk:
    """All image files below a folder, which whoever walks through it reports here.

    Attributes
    ----------
    sources : dict of str to Path or StoredFile
        By path relative to the root; a folder that cannot be listed stands for the images in it.
    failures : dict of str to str
        Reason by relative path, for what is known to be unreadable.
    locked : set of str
        The folders that cannot be listed.
    folders : set of str
        Those that were listed.
    again, broken : list of str
        Links to folders that were listed already, and links that lead nowhere.
    """

    def __init__(self) -> None:
        self.sources: dict[str, Path | StoredFile] = {}
        self.failures: dict[str, str] = {}
        self.locked: set[str] = set()
        self.folders: set[str] = set()
        self.again: list[str] = []
        self.broken: list[str] = []
        self._skipped: Counter[str] = Counter()
        self._suffixes = image_suffixes()
        self._hidden = 0
        self._hidden_folders: list[str] = []

    def is_image(self, name: str) -> bool:
        """Whether a file is an image by its name."""
        return _suffix(name) in self._suffixes

    def place(self, name: str) -> str:
        """Return a relative path as its folders are to be understood."""
        return name

    def passes_over(self, name: str, *, is_folder: bool) -> bool:
        """Whether what has this relative path is hidden, or of a system; if so, it is recorded as left out."""
        last = name.rpartition("/")[2]
        if not (last.startswith(".") or last.lower() in IGNORED):
            return False
        self._hidden += self.is_image(name)
        if is_folder:
            self._hidden_folders.append(name)
        return True

    def skip(self, name: str) -> None:
        """Record a file that is no image by its name."""
        self._skipped[_suffix(name) or "no suffix"] += 1

    def lock(self, name: str, place: Path | StoredFile, reason: str) -> None:
        """Record a folder that cannot be listed."""
        self.sources[name] = place
        self.failures[name] = f"the folder cannot be listed, its images are missing: {reason}"
        self.locked.add(name)

    def notes(self) -> list[str]:
        """Return what was left out, a line for each kind."""
        with_images = {folder for name in self.sources for folder in _above(name)}
        forms = Counter(composed(folder) for folder in self.folders)
        empty = [folder for folder in self.folders - with_images if not ({*_above(folder)} - {""} - with_images)]
        notes = [f"{some_names([name])}: {self.failures[name]}" for name in sorted(self.locked)]
        for what, names in (
            ("folders without images", [name for name in empty if name]),
            ("links to a folder that is read already, not followed", self.again),
            ("links that lead nowhere", self.broken),
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


def _suffix(name: str) -> str:
    return os.path.splitext(name.rpartition("/")[2])[1].lower()


def _above(name: str) -> Iterator[str]:
    """Return the folders that a path lies in, the nearest first; the root is an empty string."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
    yield ""
