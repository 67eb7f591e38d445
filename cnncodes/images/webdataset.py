"""Labels in WebDataset archives: the files of one key, as ``00001.jpg`` and ``00001.cls``, are one sample."""

from __future__ import annotations

import json

from cnncodes.images.files import as_text

__all__ = ["LABEL_SUFFIXES", "MAX_LABEL_BYTES", "SampleLabels", "key_of"]

LABEL_SUFFIXES = (".cls", ".json")
LABEL_KEYS = ("label", "class", "cls")  # of JSON, where there are no .cls files
MAX_LABEL_BYTES = 1 << 16


def key_of(name: str) -> tuple[str, str]:
    """Return the key of a sample and the ending of one of its files, by WebDataset's rule.

    The key ends at the first dot of the base name; folders belong to it.

    Examples
    --------
    >>> key_of("train/0001.left.JPG"), key_of("0001")
    (('train/0001', 'left.jpg'), ('0001', ''))
    """
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending.lower()


class SampleLabels:
    """The labels of samples by key: what ``.cls`` files hold, or else what JSON files call their label."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}
        self._from_json: dict[str, str] = {}

    def add(self, name: str, content: bytes) -> None:
        """Take note of a file that may hold a label."""
        key, ending = key_of(name)
        if ending == "cls":
            self._classes[key] = as_text(content.decode("utf-8", "surrogateescape").strip())
        elif ending == "json" and (label := _label_in(content)) is not None:
            self._from_json[key] = label

    @property
    def suffix(self) -> str:
        """Suffix of the files that have the labels; empty if none has."""
        return ".cls" if self._classes else ".json" if self._from_json else ""

    def of(self, key: str) -> str:
        """Return the label of a sample; empty if it has none."""
        return (self._classes or self._from_json).get(key, "")


def _label_in(content: bytes) -> str | None:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    label = next((values[key] for key in LABEL_KEYS if key in values), None)
    return str(label) if isinstance(label, (str, int)) and not isinstance(label, bool) else None
