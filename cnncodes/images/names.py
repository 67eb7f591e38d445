"""Names whose letters have accents: Unicode writes them in two forms, and they are compared in one."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

__all__ = ["RowsByName", "as_on_disk", "composed", "composed_names"]


def composed(name: str) -> str:
    """Return a name as it is compared: each accent in one character with its letter (form NFC), where there is one.

    Macs, and the ZIP files that they make, have accents behind their letters. Both look the same.

    Examples
    --------
    >>> composed("e\\u0301") == "\\u00e9"
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def composed_names(names: np.ndarray) -> np.ndarray:
    """Return an array of names with each as `composed` returns it."""
    return np.array([composed(name) for name in names.tolist()], dtype=str)


class RowsByName(Mapping[str, int]):
    """The row of each name; a name that is not there is looked for in its other forms.

    Parameters
    ----------
    names : sequence of str
        Unique.
    rows : sequence of int, optional
        By default counted from 0.

    Examples
    --------
    >>> rows = RowsByName(["a", "e\\u0301"])
    >>> rows["\\u00e9"], "b" in rows
    (1, False)
    """

    def __init__(self, names: Sequence[str], rows: Sequence[int] | None = None) -> None:
        self._rows = dict(zip(names, range(len(names)) if rows is None else rows, strict=True))
        counts = Counter(composed(name) for name in names)
        # Of names that only their forms tell apart, each stands for itself alone
        self._composed = {form: row for name, row in self._rows.items() if counts[form := composed(name)] == 1}

    def __getitem__(self, name: str) -> int:
        row = self._rows.get(name)
        return self._composed[composed(name)] if row is None else row

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def as_on_disk(path: str, listings: dict[str, dict[str, list[str]]] | None = None) -> str:
    """Return a path as it is spelled on the disk: parts that are not there are looked for in their other forms.

    Parameters
    ----------
    path : str
    listings : dict, optional
        Keeps what each folder holds, for a caller that asks for many paths.

    Returns
    -------
    str
        The path as it is given if it exists, or if nothing on the disk has this name.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    listings = {} if listings is None else listings
    folder, name = os.path.split(path.rstrip(os.sep))
    folder = as_on_disk(folder, listings)
    if folder not in listings:
        listings[folder] = {}
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder or "."):
                listings[folder].setdefault(composed(entry), []).append(entry)
    entries = listings[folder].get(composed(name), [])
    return os.path.join(folder, entries[0]) if len(entries) == 1 else path
