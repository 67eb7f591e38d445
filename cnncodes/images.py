"""Which images there are, with which labels, groups and splits: folders, manifests, arrays and lists."""

from __future__ import annotations

import csv
import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cnncodes.errors import DecodeError, ImagesError, nearest

__all__ = ["IMAGE_SUFFIXES", "ImageSet", "load_images"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"}
    | {".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".sgi", ".rgb", ".pcx", ".tga"}
)
IGNORED = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"})
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)
MANIFESTS = {".csv": ",", ".tsv": "\t"}
COLUMNS = ("path", "label", "group", "split")
ARRAYS = (".npy", ".npz")
IMAGE_KEYS, LABEL_KEYS = ("images", "x"), ("labels", "y")
MAX_BYTES = 2**31  # of a file that is read into memory whole
SHOWN = 3  # examples in an error
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
        Unique and storable as UTF-8: relative POSIX paths, or zero-padded numbers for arrays. In file names, bytes
        that are not UTF-8 are written ``\\xNN``, and then each backslash twice.
    sources : list of Path, ndarray or PIL.Image.Image
        What is to be decoded.
    labels, groups, splits : list of str or None
        Splits are ``"train"``, ``"val"`` or ``"test"``.
    root : Path or None
        The folder that the ids are relative to.
    failures : dict of str to str
        Reason by id, for what is known to be unreadable already. They are images like the others.
    notes : list of str
        What was left out or is odd, for the user to read.
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

    def take(self, rows: Sequence[int]) -> ImageSet:
        """Return the images of some rows, in that order."""

        def pick(values: list[Any] | None) -> Any:
            return None if values is None else [values[row] for row in rows]

        ids = pick(self.ids)
        failures = {name: self.failures[name] for name in ids if name in self.failures}
        columns = {name: pick(getattr(self, name)) for name in ("labels", "groups", "splits")}
        return ImageSet(ids, pick(self.sources), **columns, root=self.root, failures=failures, notes=list(self.notes))

    def read_bytes(self, row: int) -> bytes:
        """Return the bytes of the file of `row`.

        Raises
        ------
        DecodeError
            It cannot be read; the message says why.
        """
        path = self.sources[row]
        if not isinstance(path, Path):
            raise TypeError(f"image {self.ids[row]} is a {type(path).__name__}, not a file")
        if reason := self.failures.get(self.ids[row]) or _unreadable(path):
            raise DecodeError(reason)
        try:
            return path.read_bytes()
        except OSError as error:
            raise DecodeError(_reason(error)) from error
        except MemoryError as error:
            raise DecodeError("not enough memory to read the file") from error


def load_images(
    source: Any, *, labels: Sequence[str] | None = None, labelled: bool = True, allow_outside: bool = False
) -> ImageSet:
    """Find images and their labels.

    Parameters
    ----------
    source : path, sequence, PIL.Image.Image, ndarray or ImageSet
        Folder of class folders, or of ``train`` and ``test`` (or ``val``) folders of those, in any case of letters;
        folder of images without labels; CSV or TSV file with columns ``path,label[,group][,split]``; one image;
        ``.npy``, or ``.npz`` with ``images`` (or ``x``) and ``labels`` (or ``y``); or a sequence of paths, PIL images
        or arrays; or a uint8 array of shape (n, H, W, 3) or (n, H, W).
    labels : sequence of str or int, optional
        For a sequence, an array or an array file.
    labelled : bool
        Take folders as classes, and ask a manifest for labels. Otherwise every image below a folder is taken as it is.
    allow_outside : bool
        Let a manifest name files outside its folder.

    Returns
    -------
    ImageSet

    Raises
    ------
    ImagesError
        There is nothing, or it is not clear what is meant.

    Examples
    --------
    >>> images = load_images(np.zeros((2, 28, 28), np.uint8), labels=["shoe", "bag"])
    >>> images.ids, images.classes
    (['000000', '000001'], ['bag', 'shoe'])
    """
    if isinstance(source, ImageSet):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return _from_sequence(source, labels, "the sequence")
    path = Path(source)
    suffix = path.suffix.lower()
    if not str(source) or not os.path.lexists(path):
        raise ImagesError(f"{str(source)!r}: no such file or folder; {EXPECTED}")
    if suffix in ARRAYS and path.is_file():
        return _from_numpy(path, labels)
    if labels is not None:
        raise ImagesError(
            f"{path}: labels are given beside a sequence or array; here they come from folders or a table"
        )
    if path.is_dir():
        return _from_folder(path, labelled)
    if suffix in MANIFESTS:
        return _from_manifest(path, labelled, allow_outside)
    if suffix in IMAGE_SUFFIXES:
        name = _text(path.name)
        return ImageSet([name], [path], root=path.parent, failures=_failures([name], [path]))
    raise ImagesError(f"{path}: {f'{suffix} files are' if suffix else 'a file without suffix is'} not read; {EXPECTED}")


# Sequences and arrays


def _from_sequence(source: Any, labels: Any, name: str) -> ImageSet:
    if hasattr(source, "getexif"):
        source = [source]
    if hasattr(source, "to_numpy"):  # a pandas column
        source = source.to_numpy()
    if isinstance(source, np.ndarray) and source.dtype.kind not in "OU":
        _check_array(source, name)
    try:
        sources = list(source)
    except TypeError as error:
        raise ImagesError(
            f"images are given as a {type(source).__name__}; {EXPECTED}, or a sequence of them"
        ) from error
    if not sources:
        raise ImagesError(f"{name} is empty: no images were given")
    texts = None if labels is None else _label_texts(labels, len(sources), name)
    if all(isinstance(item, (str, os.PathLike)) for item in sources):
        paths = [Path(item) for item in sources]
        ids = _numbered([_text(path.as_posix()) for path in paths])
        return ImageSet(ids, paths, texts, failures=_failures(ids, paths))
    ids = [f"{i:06d}" for i in range(len(sources))]
    for i, item in enumerate(sources):
        if isinstance(item, (str, os.PathLike)):
            sources[i] = Path(item)
        elif not hasattr(item, "getexif"):
            _check_one(item, f"image {i} of {name}")
    return ImageSet(ids, sources, texts, failures=_failures(ids, sources))


def _check_array(array: np.ndarray, name: str) -> None:
    shape = array.shape
    if array.dtype != np.uint8:
        hint = "; multiply by 255 and round if it runs from 0 to 1" if array.dtype.kind == "f" else ""
        raise ImagesError(f"{name} is of {array.dtype}; expected uint8, from 0 to 255{hint}")
    if array.ndim == 3 and shape[2] == 3:
        raise ImagesError(f"{name} has shape {shape}: if that is one RGB image, put it into a list")
    if array.ndim == 4 and shape[1] == 3 != shape[3]:
        raise ImagesError(f"{name} has shape {shape}, channels first; expected (n, H, W, 3): use transpose(0, 2, 3, 1)")
    if not (array.ndim == 3 or (array.ndim == 4 and shape[3] in (1, 3))) or 0 in shape[1:]:
        raise ImagesError(f"{name} has shape {shape}; expected (n, H, W, 3) or (n, H, W)")


def _check_one(item: Any, name: str) -> None:
    if not isinstance(item, np.ndarray):
        raise ImagesError(f"{name} is a {type(item).__name__}; expected a path, a PIL image or a uint8 array")
    good_shape = item.ndim == 2 or (item.ndim == 3 and item.shape[2] in (1, 3))
    if item.dtype != np.uint8 or not good_shape or not item.size:
        raise ImagesError(f"{name} is an array of {item.dtype} {item.shape}; expected uint8 (H, W, 3) or (H, W)")


def _label_texts(labels: Any, n: int, name: str) -> list[str]:
    values = np.asarray(labels)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1 or len(values) != n:
        raise ImagesError(f"{name}: {n} images but labels of shape {values.shape}; expected one label an image")
    if values.dtype.kind not in "iubUSO":
        raise ImagesError(f"{name}: labels of {values.dtype}; expected integers or text")
    texts = [label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label) for label in values.tolist()]
    if "" in texts or None in values.tolist():
        row = next(i for i, label in enumerate(values.tolist()) if label is None or label in ("", b""))
        raise ImagesError(f"{name}: the label of image {row} is empty; label all images, or none")
    return texts


def _from_numpy(path: Path, labels: Any) -> ImageSet:
    try:
        if path.suffix.lower() == ".npy":
            return _from_sequence(np.load(path, mmap_mode="r", allow_pickle=False), labels, str(path))
        with np.load(path, allow_pickle=False) as held:
            keys = {key.lower(): key for key in held.files}
            images, texts = ([held[keys[key]] for key in wanted if key in keys] for wanted in (IMAGE_KEYS, LABEL_KEYS))
    except ImagesError:
        raise
    except Exception as error:  # numpy, zip and zlib each have their own
        pickled = any(word in str(error) for word in ("Object arrays", "Python objects", "pickle"))
        what = "holds Python objects, which are never loaded" if pickled else f"cannot be read ({error})"
        raise ImagesError(f"{path}: {what}; save a uint8 array with numpy.save or numpy.savez") from error
    if len(images) != 1 or len(texts) > 1:
        raise ImagesError(
            f"{path}: holds {', '.join(sorted(keys.values())) or 'nothing'}; expected one array 'images' (or 'x') and, "
            "for labels, one 'labels' (or 'y')"
        )
    return _from_sequence(images[0], labels if labels is not None else next(iter(texts), None), str(path))


# Manifests


def _from_manifest(path: Path, labelled: bool, allow_outside: bool) -> ImageSet:
    header, rows = _read_table(path, MANIFESTS[path.suffix.lower()])
    for name in COLUMNS[: 1 + labelled]:
        if name not in header:
            hint = nearest(name, header)
            if len(header) == 1 and (other := re.search("[;\t,|]", header[0])):
                hint = f" It seems to be separated by {other[0]!r}: save it with commas as .csv, or with tabs as .tsv."
            raise ImagesError(
                f"{path}: no column '{name}', only {', '.join(map(repr, header))}.{hint} "
                "Expected path,label[,group][,split]"
            )
    names = [row[header.index("path")] for _, row in rows]
    ids, paths = _resolve(path, names, [line for line, _ in rows], allow_outside)
    columns = {name: _column(path, name, header, rows) for name in COLUMNS[1:]}
    if splits := columns["split"]:
        wrong = [(line, split) for (line, _), split in zip(rows, splits, strict=True) if split.lower() not in SPLITS]
        _refuse(path, wrong, "no such split", "write train, val or test")
        splits = [SPLITS[split.lower()] for split in splits]
    notes = ["the label column is empty: the images have no labels"] if labelled and not columns["label"] else []
    if extra := [name for name in header if name not in COLUMNS]:
        notes.append(f"columns that are not used: {', '.join(extra)}")
    return ImageSet(
        ids,
        paths,
        labels=columns["label"],
        groups=columns["group"],
        splits=splits,
        root=path.parent,
        failures=_failures(ids, paths),
        notes=notes,
    )


def _read_table(path: Path, delimiter: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header in small letters, and (line number, cells) of each row that is not blank."""
    rows: list[tuple[int, list[str]]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            line = 1
            for row in reader:
                if any(cell.strip() for cell in row):
                    rows.append((line, row))
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ImagesError(f"{path}: not UTF-8 text ({error.reason}); save it as CSV UTF-8") from error
    except csv.Error as error:
        raise ImagesError(f"{path}, line {line}: not a table ({error}); check the quotation marks") from error
    except OSError as error:
        raise ImagesError(f"{path}: {_reason(error)}") from error
    if not rows:
        raise ImagesError(f"{path}: it is empty; expected columns path,label[,group][,split]")
    header = [name.strip().lower() for name in rows.pop(0)[1]]
    if twice := [name for name, n in Counter(header).items() if n > 1]:
        raise ImagesError(f"{path}: several columns are called {twice[0]!r}; rename all but one")
    if not rows:
        raise ImagesError(f"{path}: there are no rows below the header")
    ragged = [(line, f"{len(row)} cells") for line, row in rows if len(row) != len(header)]
    _refuse(path, ragged, f"the header has {len(header)} columns, the row has", "quote what contains the separator")
    return header, rows


def _resolve(
    path: Path, names: Sequence[str], lines: Sequence[int], allow_outside: bool
) -> tuple[list[str], list[Path]]:
    """Find the files that a manifest names, and their ids: relative to its folder where they lie in it."""
    root = os.path.realpath(path.parent)
    outside, missing, twice = [], [], []
    ids: list[str] = []
    paths: list[Path] = []
    first: dict[str, int] = {}
    folders: dict[str, str] = {}
    for line, name in zip(lines, names, strict=True):
        full = os.path.join(path.parent, name)
        if not os.path.exists(full):
            full = os.path.join(path.parent, name := name.strip())
        if not name or "\0" in name or not os.path.exists(full) or os.path.isdir(full):
            missing.append((line, name))
            continue
        folder, last = os.path.split(full)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        place = os.path.join(folders[folder], last)  # a link in its real folder: links may have the same target
        if not _is_inside(os.path.realpath(place) if os.path.islink(place) else place, root):
            outside.append((line, name))
        if place in first:
            twice.append((line, f"{name} (as in line {first[place]})"))
        first.setdefault(place, line)
        if ".." in PurePosixPath(name).parts or os.path.isabs(name):
            name = os.path.relpath(place, root) if _is_inside(place, root) else place
        ids.append(_text(PurePosixPath(name).as_posix()))
        paths.append(Path(full))
    if not allow_outside:
        _refuse(
            path,
            outside,
            "outside of the folder of the table",
            "move the table up, or allow it: --allow-outside, in Python allow_outside=True",
        )
    slash = " (write / and not \\)" if any("\\" in name for _, name in missing) else ""
    _refuse(path, missing, "no such file", f"paths are relative to the folder of the table{slash}")
    _refuse(path, twice, "the same file again", "keep one row for each image")
    return ids, paths


def _is_inside(place: str, root: str) -> bool:
    return place.startswith(root if root.endswith(os.sep) else root + os.sep)


def _column(path: Path, name: str, header: list[str], rows: Sequence[tuple[int, list[str]]]) -> list[str] | None:
    """Return the cells of a column, or nothing where it is missing or empty from top to bottom."""
    if name not in header:
        return None
    values = [row[header.index(name)].strip() for _, row in rows]
    if not any(values):
        return None
    blank = [(line, "") for (line, _), value in zip(rows, values, strict=True) if not value]
    _refuse(path, blank, f"the {name} is empty", f"fill the {name} of every row, or of none")
    return values


def _refuse(path: Path, rows: Sequence[tuple[int, str]], what: str, advice: str) -> None:
    """Raise one error that names the lines of all rows with a fault."""
    if not rows:
        return
    lines = _some([str(line) for line, _ in rows])
    examples = _some([text for _, text in rows[:SHOWN] if text])
    raise ImagesError(
        f"{path}, line{'s' if len(rows) > 1 else ''} {lines}: {what}{f': {examples}' if examples else ''}; {advice}"
    )


# Folders


def _from_folder(root: Path, labelled: bool) -> ImageSet:
    walk = _Walk(root)
    if not walk.files:
        what = "; ".join(walk.notes())
        raise ImagesError(f"{root}: there are no images in it{f' ({what})' if what else ''}; {EXPECTED}")
    names = sorted(walk.files)
    images = ImageSet(
        ids=[_text(name) for name in names],
        sources=[Path(walk.files[name]) for name in names],
        root=root,
        failures={_text(name): walk.failures[name] for name in names if name in walk.failures},
        notes=walk.notes(),
    )
    if labelled:
        # An unreadable folder stands for the images in it.
        _label_by_folders(images, [(f"{name}/?" if name in walk.locked else name).split("/") for name in names])
    return images


def _label_by_folders(images: ImageSet, parts: Sequence[Sequence[str]]) -> None:
    """Set labels and splits from the folders that the images lie in."""
    root = images.root
    loose = [part[0] for part in parts if len(part) == 1]
    if len(loose) == len(parts):
        images.notes.append("there are no class folders: the images have no labels")
        return
    if loose:
        raise ImagesError(
            f"{root}: {len(loose)} images lie beside the folders ({_some(loose)}), so the folders are not clear as "
            "classes; move these images into a class folder, or elsewhere"
        )
    tops = sorted({part[0] for part in parts})
    splits = {top: SPLITS[top.lower()] for top in tops if top.lower() in SPLITS}
    others = [top for top in tops if top not in splits]
    if len(set(splits.values())) > 1 and others:
        raise ImagesError(
            f"{root}: {', '.join(splits)} look like splits, but {_some(others)} lies beside them; move it "
            "elsewhere, or rename the splits if they are classes"
        )
    if splits and not others:
        if shallow := [part for part in parts if len(part) == 2]:
            raise ImagesError(
                f"{root}: {_some(['/'.join(shallow[0])])} lies in a split, but in no class folder; expected e.g. "
                f"{shallow[0][0]}/CLASS/{_some([shallow[0][1]])}"
            )
        images.splits = [splits[part[0]] for part in parts]
        images.labels = [_text(part[1]) for part in parts]
        trained = {part[1] for part in parts if splits[part[0]] == "train"}
        if trained and (new := sorted({part[1] for part in parts} - trained)):
            images.notes.append(f"classes without images in train: {_some(new)}")
        return
    if splits:
        images.notes.append(f"{', '.join(splits)} is taken as a class, because {_some(others)} is one")
    images.labels = [_text(part[0]) for part in parts]


class _Walk:
    """All image files below a folder. Every folder is entered once, and by its own name rather than by a link."""

    def __init__(self, root: Path) -> None:
        self.files: dict[str, str] = {}  # full path by path relative to the root
        self.failures: dict[str, str] = {}
        self.locked: set[str] = set()
        self._folders: set[str] = set()
        self._skipped: Counter[str] = Counter()
        self._again: list[str] = []
        self._broken: list[str] = []
        self._hidden = 0
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
                about = os.stat(path)
                if (key := (about.st_dev, about.st_ino)) in self._seen:
                    self._again.append(name)
                    continue
                with os.scandir(path) as found:
                    entries = list(found)
            except OSError as error:
                if not name:
                    raise ImagesError(f"{path}: the folder cannot be listed: {_reason(error)}") from error
                self.files[name] = path
                self.failures[name] = f"the folder cannot be listed, its images are missing: {_reason(error)}"
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
        """Say whether an entry is a folder to be entered; otherwise sort it in."""
        suffix = os.path.splitext(entry.name)[1].lower()
        is_image = suffix in IMAGE_SUFFIXES
        if entry.name.startswith(".") or entry.name.lower() in IGNORED:
            self._hidden += is_image
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
        if reason := _unreadable(entry.path):
            self.failures[name] = reason
        return False

    def notes(self) -> list[str]:
        with_images = {folder for name in self.files for folder in _above(name)}
        empty = [folder for folder in self._folders - with_images if not ({*_above(folder)} - {""} - with_images)]
        notes = [f"{_some([name])}: {self.failures[name]}" for name in sorted(self.locked)]
        for what, names in (
            ("folders without images", [name for name in empty if name]),
            ("links to a folder that is read already, not followed", self._again),
            ("links that lead nowhere", self._broken),
        ):
            if names:
                notes.append(f"{what}: {_some(sorted(names))}")
        if self._skipped:
            counts = ", ".join(f"{n} {_some([suffix])}" for suffix, n in sorted(self._skipped.items()))
            notes.append(f"files skipped, not images by their names: {counts}")
        if self._hidden:
            notes.append(f"hidden image files skipped: {self._hidden}")
        return notes


def _above(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
    yield ""


# Files


def _failures(ids: Iterable[str], sources: Iterable[Any]) -> dict[str, str]:
    return {
        name: reason
        for name, path in zip(ids, sources, strict=True)
        if isinstance(path, Path) and (reason := _unreadable(path))
    }


def _unreadable(path: str | Path) -> str:
    """Say why a file must not be opened (a FIFO would hang) or cannot be; an empty string if it can."""
    try:
        about = os.stat(path)
    except OSError as error:
        dangling = error.errno == errno.ENOENT and os.path.islink(path)
        return "a link to a file that does not exist" if dangling else _reason(error)
    except ValueError:
        return "no such file"
    if stat.S_ISDIR(about.st_mode):
        return "a folder, not a file"
    if not stat.S_ISREG(about.st_mode):
        return "not a regular file (a pipe, socket or device), never opened"
    if about.st_size > MAX_BYTES:
        return f"{about.st_size:,} bytes, more than the limit of {MAX_BYTES:,}"
    return "" if os.access(path, os.R_OK) else "no permission to read it"


def _reason(error: OSError) -> str:
    words = {
        errno.ENOENT: "no such file",
        errno.EACCES: "no permission to read it",
        errno.EPERM: "no permission to read it",
        errno.ELOOP: "a link that leads back to itself",
        errno.EIO: "the disk cannot read it (input/output error)",
    }
    return words.get(error.errno or 0, error.strerror or str(error))


def _text(name: str) -> str:
    """Return a file name as text that UTF-8 can hold, another one for every name.

    Bytes that are not UTF-8 (lone surrogates in Python) become ``\\xNN``, and then every backslash is doubled; so it is
    in a name that holds such an escape already. Any other name stays as it is.
    """
    if not re.search(r"[\ud800-\udfff]|\\[xu]", name):
        return name
    return re.sub(r"[\ud800-\udfff]", _escape, name.replace("\\", "\\\\"))


def _some(names: Sequence[str]) -> str:
    """Return the first few names on one line, and how many more there are."""
    shown = ", ".join(_text(name) for name in names[:SHOWN])
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)
    return line + (f" and {n} more" if (n := len(names) - SHOWN) > 0 else "")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _numbered(names: Sequence[str]) -> list[str]:
    """Tell apart the names that occur again, as in ``a.jpg#2``."""
    taken, counts, out = set(names), Counter[str](), []
    for name in names:
        counts[name] += 1
        unique = name
        while counts[name] > 1 and (unique := f"{name}#{counts[name]}") in taken:
            counts[name] += 1
        taken.add(unique)
        out.append(unique)
    return out
