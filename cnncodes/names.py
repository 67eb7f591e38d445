"""Names of files, classes and groups: Unicode writes accents in two forms, and names are compared in one."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

__all__ = ["RowsByName", "composed", "composed_names"]


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
        # Names that differ in their forms alone are not joined: each stands for itself
        self._composed = {form: row for name, row in self._rows.items() if counts[form := composed(name)] == 1}

    def __getitem__(self, name: str) -> int:
        row = self._rows.get(name)
        return self._composed[composed(name)] if row is None else row

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
