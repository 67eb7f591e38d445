"""Files that may be images: their names as text, and why one cannot be read."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cnncodes.display import shortened
from cnncodes.errors import ImagesError
from cnncodes.images.formats import reads_heic
from cnncodes.names import composed

__all__ = [
    "HEIC_SUFFIXES",
    "IMAGE_SUFFIXES",
    "as_on_disk",
    "as_text",
    "failures_of",
    "image_suffixes",
    "numbered",
    "reason_of",
    "refuse_entries",
    "some_names",
    "unreadable",
]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"}
    | {".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".sgi", ".rgb", ".pcx", ".tga"}
)
HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
MAX_BYTES = 2**31  # a file is read into memory whole
PLURAL = {"line": "lines", "entry": "entries"}
MAX_EXAMPLES = 3  # names that an error or a note lists


def image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files that are read here, in small letters."""
    return IMAGE_SUFFIXES | HEIC_SUFFIXES if reads_heic() else IMAGE_SUFFIXES


def failures_of(ids: Iterable[str], sources: Iterable[Any]) -> dict[str, str]:
    """Return the reason by id for each file that cannot be read; sources that are no paths are passed over."""
    return {
        name: reason
        for name, path in zip(ids, sources, strict=True)
        if isinstance(path, Path) and (reason := unreadable(path))
    }


def unreadable(path: str | Path) -> str:
    """Say why a file must not be opened (a FIFO would hang) or cannot be; an empty string if it can."""
    try:
        status = os.stat(path)
    except OSError as error:
        dangling = error.errno == errno.ENOENT and os.path.islink(path)
        return "a link to a file that does not exist" if dangling else reason_of(error)
    except ValueError:
        return "no such file"
    if stat.S_ISDIR(status.st_mode):
        return "a folder, not a file"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file (a pipe, socket or device), never opened"
    if status.st_size > MAX_BYTES:
        return f"{status.st_size:,} bytes, more than the limit of {MAX_BYTES:,}"
    return "" if os.access(path, os.R_OK) else "no permission to read it"


def reason_of(error: OSError) -> str:
    """Return why a file cannot be read, in words for the person who has it."""
    words = {
        errno.ENOENT: "no such file",
        errno.EACCES: "no permission to read it",
        errno.EPERM: "no permission to read it",
        errno.ELOOP: "a link that leads back to itself",
        errno.EIO: "the disk cannot read it (input/output error)",
    }
    return words.get(error.errno or 0, error.strerror or str(error))


def as_text(name: str) -> str:
    """Return a file name as text that UTF-8 can hold, another one for every name.

    Bytes that are not UTF-8 (lone surrogates in Python) become ``\\xNN``, and then every backslash is doubled. The same
    is done with a name that holds such an escape already. Any other name stays as it is.
    """
    if not re.search(r"[\ud800-\udfff]|\\[xu]", name):
        return name
    return re.sub(r"[\ud800-\udfff]", _escape, name.replace("\\", "\\\\"))


def some_names(names: Sequence[str]) -> str:
    """Return the first few names on one line, long ones shortened, and how many more there are."""
    shown = ", ".join(shortened(as_text(name)) for name in names[:MAX_EXAMPLES])
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)
    return line + (f" and {n} more" if (n := len(names) - MAX_EXAMPLES) > 0 else "")


def as_on_disk(path: str, folder: str = "", listings: dict[str, dict[str, list[str]]] | None = None) -> str:
    """Return a path as it is spelled on the disk: parts that are not there are looked for in their other forms.

    Parameters
    ----------
    path : str
    folder : str, default=""
        What the path is relative to; by default the working folder.
    listings : dict, optional
        Keeps what each folder holds, for a caller that asks for many paths.

    Returns
    -------
    str
        The path as it is given if it exists, or if the disk has no such name, or several.
    """
    if path.isascii() or os.path.lexists(os.path.join(folder, path)):
        return path
    spellings = _spelled_alike(path.rstrip(os.sep), folder, {} if listings is None else listings)
    return spellings[0] if len(spellings) == 1 else path


def _spelled_alike(path: str, folder: str, listings: dict[str, dict[str, list[str]]]) -> list[str]:
    """Return all paths on the disk that look as this one does."""
    if path.isascii():
        return [path]
    above, name = os.path.split(path)
    alike = []
    for parent in _spelled_alike(above, folder, listings):
        full = os.path.join(folder, parent)
        if full not in listings:
            listings[full] = {}
            with contextlib.suppress(OSError):
                for entry in os.listdir(full or "."):
                    listings[full].setdefault(composed(entry), []).append(entry)
        alike += [os.path.join(parent, entry) for entry in listings[full].get(composed(name), [])]
    return alike


def refuse_entries(
    path: object, entries: Sequence[tuple[int, str]], what: str, advice: str, *, unit: str = "line"
) -> None:
    """Raise one error that names the numbers of all entries of a file that have a fault, if there are any.

    Parameters
    ----------
    path : Path or RemoteFile
    entries : sequence of (int, str)
        Number of each, and what it holds.
    what, advice : str
        The fault, and what to do.
    unit : {"line", "entry"}
        What the entries are.
    """
    if not entries:
        return
    numbers = some_names([str(number) for number, _ in entries])
    examples = some_names([text for _, text in entries[:MAX_EXAMPLES] if text])
    where = f"{path}, {unit if len(entries) == 1 else PLURAL[unit]} {numbers}"
    raise ImagesError(f"{where}: {what}{f': {examples}' if examples else ''}; {advice}")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def numbered(names: Sequence[str]) -> list[str]:
    """Return the names, each made unique: one that occurs again gets a number, as in ``a.jpg#2``."""
    taken, counts, out = set(names), Counter[str](), []
    for name in names:
        counts[name] += 1
        unique = name
        while counts[name] > 1 and (unique := f"{name}#{counts[name]}") in taken:
            counts[name] += 1
        taken.add(unique)
        out.append(unique)
    return out
