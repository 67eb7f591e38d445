"""Which images there are, with which labels, groups and splits: folders, manifests, arrays and lists."""

from __future__ import annotations

import csv
import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.errors import DecodeError, ImagesError, nearest

__all__ = ["IMAGE_SUFFIXES", "ImageSet", "load_images"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm"}
    | {".pbm", ".pnm", ".jp2", ".j2k", ".tga", ".ico", ".pcx", ".avif", ".sgi"}
)
IGNORED = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
MANIFESTS = {".csv": ",", ".tsv": "\t"}
ARRAYS = (".npy", ".npz")
EXPECTED = (
    "expected a folder with one folder of images a class, a folder with train/ and test/ folders of those, "
    "a .csv or .tsv file with columns path,label, one image, or a .npy or .npz file"
)


@dataclass
class ImageSet:
    """Images and what is known about them, one entry an image.

    Attributes
    ----------
    ids : list of str
        Unique: relative POSIX paths, or zero-padded numbers for arrays.
    sources : list of Path, ndarray or PIL.Image.Image
        What is to be decoded.
    labels, groups, splits : list of str or None
    root : Path or None
        The folder that the ids are relative to.
    failures : dict of str to str
        Reason by id, for what is known to be unreadable already.
    notes : list of str
        What was left out, and why.
    """

    ids: list[str]
    sources: list[Any]
    labels: list[str] | None = None
    groups: list[str] | None = None
    splits: list[str] | None = None
    root: Path | None = None
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> list[str]:
        """The distinct labels, sorted."""
        return sorted(set(self.labels or []) - {""})

    def read_bytes(self, row: int) -> bytes:
        """Return the bytes of the file of `row`.

        Raises
        ------
        DecodeError
            It cannot be read; the message says why.
        """
        if reason := self.failures.get(self.ids[row]):
            raise DecodeError(reason)
        try:
            return Path(self.sources[row]).read_bytes()
        except OSError as error:
            raise DecodeError(_reason(error)) from error


def load_images(
    source: Any, *, labels: Sequence[str] | None = None, labelled: bool = True, allow_outside: bool = False
) -> ImageSet:
    """Find images and their labels.

    Parameters
    ----------
    source : path, sequence or ndarray
        Folder of class folders; folder with ``train`` and ``test`` (or ``val``) folders of those; flat folder; CSV or
        TSV file with columns ``path,label[,group][,split]``; one image; ``.npy`` or ``.npz``; or a sequence of paths,
        PIL images or arrays, or a uint8 array of shape (n, H, W, 3) or (n, H, W).
    labels : sequence of str, optional
        For a sequence or array.
    labelled : bool
        Take folders as classes. Otherwise every image below a folder is taken, and no label.
    allow_outside : bool
        Let a manifest name files outside its folder.

    Returns
    -------
    ImageSet

    Raises
    ------
    ImagesError
        There is nothing, or it is not clear what is meant.
    """
    if isinstance(source, ImageSet):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return _from_sequence(source, labels)
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, labelled)
    if not os.path.lexists(path):
        raise ImagesError(f"{path}: no such file or folder; {EXPECTED}")
    suffix = path.suffix.lower()
    if suffix in MANIFESTS:
        return _from_manifest(path, MANIFESTS[suffix], allow_outside)
    if suffix in ARRAYS:
        return _from_numpy(path, labels)
    if suffix in IMAGE_SUFFIXES:
        return ImageSet([_text(path.name)], [path], root=path.parent, failures=_unreadable([(_text(path.name), path)]))
    raise ImagesError(f"{path}: {suffix or 'a file without suffix'} is not read; {EXPECTED}")


def _from_sequence(source: Any, labels: Sequence[str] | None) -> ImageSet:
    if hasattr(source, "to_numpy"):
        source = source.to_numpy()
    sources = list(source)
    if not sources:
        raise ImagesError("no images were given")
    texts = None if labels is None else [str(label) for label in labels]
    if texts is not None and len(texts) != len(sources):
        raise ImagesError(f"{len(sources)} images but {len(texts)} labels")
    if all(isinstance(item, (str, os.PathLike)) for item in sources):
        paths = [Path(item) for item in sources]
        ids = _unique([_text(path.as_posix()) for path in paths])
        return ImageSet(ids, paths, texts, failures=_unreadable(zip(ids, paths, strict=True)))
    width = len(str(len(sources) - 1))
    ids = [f"{i:0{width}d}" for i in range(len(sources))]
    for name, item in zip(ids, sources, strict=True):
        if not (isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim in (2, 3)) and not hasattr(
            item, "getexif"
        ):
            got = f"array of {item.dtype} {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
            raise ImagesError(
                f"image {name} is of type {got}; expected a path, a PIL image or a uint8 array (H, W, 3) or (H, W)"
            )
    return ImageSet(ids, sources, texts)


def _from_numpy(path: Path, labels: Sequence[str] | None) -> ImageSet:
    try:
        held = np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npy":
            return _from_sequence(held, labels)
        named = {name.lower(): held[name] for name in held.files}
    except (OSError, ValueError, EOFError) as error:
        raise ImagesError(f"{path}: cannot be read ({error})") from error
    images = next((named[name] for name in ("images", "x", "data") if name in named), None)
    texts = next((named[name] for name in ("labels", "y", "label") if name in named), None)
    if images is None:
        raise ImagesError(
            f"{path}: holds {', '.join(named) or 'nothing'}; expected arrays 'images' (or 'X') and 'labels' (or 'y')"
        )
    return _from_sequence(images, labels if labels is not None else texts)


def _from_manifest(path: Path, delimiter: str, allow_outside: bool) -> ImageSet:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter)
            columns = [name.strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImagesError(f"{path}: cannot be read as a table ({error})") from error
    if "path" not in columns:
        found = f"{nearest('path', columns)} It has {', '.join(columns)};" if columns else " It is empty;"
        raise ImagesError(f"{path}: no column 'path'.{found} expected path,label[,group][,split]")
    if not rows:
        raise ImagesError(f"{path}: no rows below the header")
    root = path.parent.resolve()
    ids, sources = [], []
    lines: dict[str, int] = {}
    for line, row in enumerate(rows, 2):
        name = (row["path"] or "").strip()
        if not name:
            raise ImagesError(f"{path}, line {line}: the path is empty")
        target = (path.parent / name).resolve()
        if not allow_outside and not target.is_relative_to(root):
            raise ImagesError(
                f"{path}, line {line}: {name} lies outside the folder of the table; move the table, or --allow-outside"
            )
        if not target.exists():
            raise ImagesError(f"{path}, line {line}: there is no file {name} (paths are relative to the table)")
        if name in lines:
            raise ImagesError(f"{path}, line {line}: {name} stands in line {lines[name]} already")
        lines[name] = line
        ids.append(_text(Path(name).as_posix()))
        sources.append(path.parent / name)
    splits = _column(rows, "split")
    for line, value in enumerate(splits or [], 2):
        if value and value.lower() not in SPLITS:
            raise ImagesError(f"{path}, line {line}: split {value!r}; expected train, val or test")
    return ImageSet(
        ids,
        sources,
        labels=_column(rows, "label"),
        groups=_column(rows, "group"),
        splits=[SPLITS.get(value.lower(), "") for value in splits] if splits else None,
        root=path.parent,
        failures=_unreadable(zip(ids, sources, strict=True)),
    )


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[str] | None:
    values = [(row.get(name) or "").strip() for row in rows]
    return values if any(values) else None


def _from_folder(root: Path, labelled: bool) -> ImageSet:
    walk = _Walk(root)
    files = walk.files
    if not files:
        raise ImagesError(f"{root}: there are no images in it{walk.summary()}; {EXPECTED}")
    found = ImageSet(
        ids=_unique([_text(path.relative_to(root).as_posix()) for path in files]),
        sources=files,
        root=root,
        notes=walk.notes(),
    )
    found.failures = {**_unreadable(zip(found.ids, files, strict=True))}
    found.failures |= {_text(path.relative_to(root).as_posix()): why for path, why in walk.failures.items()}
    parts = [path.relative_to(root).parts for path in files]
    if not labelled or all(len(part) == 1 for part in parts):
        return found
    if loose := [part[0] for part in parts if len(part) == 1]:
        raise ImagesError(
            f"{root}: {len(loose)} images ({loose[0]}, …) lie beside the class folders; move them into one"
        )
    tops = {part[0] for part in parts}
    if all(top.lower() in SPLITS for top in tops) and any(SPLITS[top.lower()] == "train" for top in tops):
        if shallow := [part for part in parts if len(part) == 2]:
            raise ImagesError(f"{root}: {'/'.join(shallow[0])} lies in a split, but in no class folder")
        found.splits = [SPLITS[part[0].lower()] for part in parts]
        found.labels = [_text(part[1]) for part in parts]
    else:
        found.labels = [_text(part[0]) for part in parts]
    return found


class _Walk:
    """All image files below a folder, in the order of their names; every folder is entered once."""

    def __init__(self, root: Path) -> None:
        self.files: list[Path] = []
        self.failures: dict[Path, str] = {}
        self.skipped: Counter[str] = Counter()
        self.empty: list[str] = []
        self.unreadable: list[str] = []
        self._seen: set[tuple[int, int]] = set()
        self._root = root
        self._enter(root)
        self.files.sort(key=lambda path: path.relative_to(root).as_posix().encode("utf-8", "surrogateescape"))

    def _enter(self, folder: Path) -> None:
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in self._seen:
                return
            self._seen.add((about.st_dev, about.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == self._root:
                raise ImagesError(f"{folder}: cannot be listed ({_reason(error)})") from error
            self.unreadable.append(f"{_text(folder.relative_to(self._root).as_posix())} ({_reason(error)})")
            return
        before = len(self.files)
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in IGNORED:
                continue
            if entry.is_dir():
                self._enter(Path(entry.path))
            elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                self.files.append(Path(entry.path))
            else:
                self.skipped[Path(entry.name).suffix.lower() or "no suffix"] += 1
        if len(self.files) == before and folder != self._root and not any(entry.is_dir() for entry in entries):
            self.empty.append(_text(folder.relative_to(self._root).as_posix()))

    def notes(self) -> list[str]:
        notes = [f"the folder {name} cannot be read, its images are missing" for name in self.unreadable]
        notes += [f"the folder {name} has no images" for name in self.empty]
        if self.skipped:
            counts = ", ".join(f"{n} {suffix}" for suffix, n in sorted(self.skipped.items()))
            notes.append(f"files that are no images were skipped: {counts}")
        return notes

    def summary(self) -> str:
        return f" ({'; '.join(self.notes())})" if self.notes() else ""


def _unreadable(files: Any) -> dict[str, str]:
    """Find what must not be opened (a FIFO would hang) or is not there."""
    failures = {}
    for name, path in files:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            dangling = error.errno == errno.ENOENT and os.path.islink(path)
            failures[name] = "a link to a file that does not exist" if dangling else _reason(error)
            continue
        if not stat.S_ISREG(mode):
            failures[name] = (
                "a folder, not a file" if stat.S_ISDIR(mode) else "not a regular file (a pipe, socket or device)"
            )
    return failures


def _reason(error: OSError) -> str:
    words = {
        errno.ENOENT: "there is no such file",
        errno.EACCES: "no permission to read it",
        errno.ELOOP: "a link to itself",
    }
    return words.get(error.errno or 0, error.strerror or str(error))


def _text(name: str) -> str:
    """Return a name that can be stored as UTF-8: bytes that are none are written as \\xNN, as is the backslash then."""
    try:
        name.encode("utf-8")
        return name
    except UnicodeEncodeError:
        return name.replace("\\", "\\\\").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unique(names: Iterator[str] | Sequence[str]) -> list[str]:
    """Number the names that occur again, as in ``a.jpg#2``."""
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return out
