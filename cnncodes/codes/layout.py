"""The layout of a codes file: its datasets, how it is created, and the gate before it is read."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from cnncodes.codes.checks import cut, refuse_odd_text
from cnncodes.codes.columns import Columns, Place, digest_of
from cnncodes.codes.provenance import Provenance, to_json
from cnncodes.codes.structure import MAGIC, digest_in, refuse_damage, text_of
from cnncodes.codes.thumbnails import THUMBNAIL
from cnncodes.codes.trial import try_apart
from cnncodes.errors import CodesFileError, MismatchError, parameter
from cnncodes.vocabulary import MAPS, map_key

__all__ = [
    "ImageTable",
    "allocate",
    "is_hdf5",
    "lay_out",
    "look",
    "open_columns",
]

FORMAT = "cnncodes"
HDF5 = b"\x89HDF\r\n\x1a\n"
FORMAT_VERSION = 1
STATES = ("pending", "ok", "failed")
PENDING, OK, FAILED = range(3)
ERROR_BYTES = 160
CHUNK_BYTES = 32 * 2**20
MAP_TYPE = np.dtype("<f2")
THUMBNAILS = "images/thumbnail"
HEADERS = ("description", "classes")
CONSTANT = {  # the columns that are written once, and what they hold
    "id": "ids",
    "label": "labels",
    "group": "groups",
    "split": "splits",
    "size": "file sizes",
    "changed_ns": "file times",
}


@dataclass
class ImageTable:
    """What a codes file holds about its images, one entry a row.

    Parameters
    ----------
    ids : list of str
        Unique relative POSIX paths, or indexes for arrays.
    labels, groups, splits : list of str or None
        ``None``: there are none. An empty string: this image has none.
    sizes, changed : list of int
        Size in bytes of each file, and when its content or its name was last changed, in nanoseconds; ``-1`` where
        there is no file.
    """

    ids: list[str]
    labels: list[str] | None = None
    groups: list[str] | None = None
    splits: list[str] | None = None
    sizes: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("labels", "groups", "splits"):
            if not any(getattr(self, name) or []):
                setattr(self, name, None)
        self.sizes = self.sizes or [-1] * len(self.ids)
        self.changed = self.changed or [-1] * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns as they are stored, by name: text as UTF-8 of fixed length."""
        columns: dict[str, np.ndarray] = {}
        texts = {"id": self.ids, "label": self.labels, "group": self.groups, "split": self.splits}
        for name, values in texts.items():
            columns[name] = np.array([value.encode() for value in values or [""] * len(self)], dtype=np.bytes_)
        numbers = {"size": self.sizes, "changed_ns": self.changed}
        return columns | {name: np.array(values, "<i8") for name, values in numbers.items()}

    def stamp(self, row: int) -> tuple[int, int]:
        """Return size and time of change of a row's file; while both stay the same, the file counts as unchanged."""
        return self.sizes[row], self.changed[row]

    def digest(self) -> str:
        """Return the SHA-256 of ids, labels, groups and splits, in hexadecimal digits."""
        return hashlib.sha256(to_json([self.ids, self.labels, self.groups, self.splits]).encode()).hexdigest()


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as HDF5 does, or as a codes file."""
    with Path(path).open("rb") as file:
        return file.read(len(HDF5)) in (HDF5, MAGIC)


def open_columns(path: Path, *, writable: bool) -> tuple[Columns, Provenance, list[str]]:
    """Open a codes file that has passed the gate; return its tables, its provenance and the names of its classes.

    HDF5 only tells where the datasets lie. That never changes, so rows are read and written as plain bytes. Damage can
    make HDF5 spin for ever, so its structure is compared with a digest first; files of the earlier layout, which have
    none, are tried in a process of its own.
    """
    if not path.is_file():
        if path.is_dir():
            raise CodesFileError(f"{path}: is a folder, not a codes file; name a file in it")
        make = parameter("out", path.name, of="extract")
        raise CodesFileError(f"{path}: no such codes file; make one with {make}")
    try:
        columns = Columns(path, writable=writable)
    except OSError as error:
        raise CodesFileError(f"{path}: cannot be opened ({error.strerror})") from error
    try:
        if columns.read(0, min(len(HDF5), path.stat().st_size)) == HDF5:
            try_apart(path)
        else:
            refuse_damage(columns)
        with h5py.File(columns.file, "r") as h5:
            return columns, *_gate(path, h5, columns)
    except CodesFileError:
        columns.close()
        raise
    except (MismatchError, OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        columns.close()
        raise CodesFileError(f"{path}: not a codes file, or damaged ({cut(str(error))})") from error


def look(path: str) -> None:
    """Ask HDF5 what `open_columns` asks it, wherever that leads."""
    columns = Columns(Path(path))
    with h5py.File(columns.file, "r") as h5:
        _gate(Path(path), h5, columns)


def _gate(path: Path, h5: h5py.File, columns: Columns) -> tuple[Provenance, list[str]]:
    """Refuse a file that is no codes file or whose datasets lie elsewhere; note where each dataset lies."""
    if text_of(h5.attrs.get("format")) != FORMAT:
        raise CodesFileError(f"{path}: an HDF5 file, but not a codes file; make one with `cnncodes extract`")
    if (version := int(h5.attrs["format_version"])) > FORMAT_VERSION:
        raise CodesFileError(f"{path}: format version {version} is newer than this cnncodes reads; upgrade cnncodes")
    sealed = h5.userblock_size > 0
    description, names = (_header(h5, columns, name) if sealed else h5.attrs[name] for name in HEADERS)
    provenance, classes = Provenance.from_json(description), json.loads(names)
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        raise ValueError("its classes are no list of names")
    refuse_odd_text({"classes": classes})
    (n,) = _hard(h5, "images/id").shape
    expected = _image_datasets(n, len(provenance.stored_keys))
    for name, (shape, kind) in expected.items():
        place = _place(h5, f"images/{name}", shape, kind)
        columns.add(f"images/{name}", place, digest_in(h5, f"images/{name}") if sealed and name in CONSTANT else None)
    for name in provenance.layers:
        columns.add(f"codes/{name}", _place(h5, f"codes/{name}", (n, *provenance.code_shape(name)), "f"))
    named = {"images": set(expected), "codes": set(provenance.layers)}
    for name in provenance.maps:
        columns.add(map_key(name), _place(h5, map_key(name), (n, *provenance.map_shape(name)), "f", MAP_TYPE))
        named[MAPS.rstrip("/")] = set(provenance.maps)
    if THUMBNAILS in h5:  # earlier files, and some of today, have none
        columns.add(THUMBNAILS, _place(h5, THUMBNAILS, (n,), "V", THUMBNAIL))
        named["images"].add(THUMBNAILS.rpartition("/")[2])
    if set(h5) != set(named).union(HEADERS if sealed else ()) or any(
        set(h5[group]) != names for group, names in named.items()
    ):
        raise ValueError("it holds other datasets than its provenance names")
    return provenance, classes


def _image_datasets(n: int, n_columns: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and numpy kind of each dataset below /images."""
    texts = dict.fromkeys(("id", "label", "group", "split", "error"), ((n,), "S"))
    numbers = {"size": ((n,), "i"), "changed_ns": ((n,), "i"), "state": ((n,), "u")}
    return {**texts, **numbers, "sha256": ((n, 32), "u"), "crc32": ((n, n_columns), "u")}


def _header(h5: h5py.File, columns: Columns, name: str) -> str:
    """Return a text that stands for the whole file."""
    columns.add(name, _place(h5, name, (1,), "S"), digest_in(h5, name))
    (text,), intact = columns[name].whole()
    if not intact:
        raise ValueError(f"its {name} does not match its checksum")
    return str(text, "utf-8")


def _hard(h5: h5py.File, name: str) -> h5py.h5d.DatasetID:
    """Return the dataset at `name`, reached by hard links alone."""
    at = h5.id
    for part in map(str.encode, name.split("/")):
        if not at.links.exists(part) or at.links.get_info(part).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{name} is not in the file itself")
        at = h5py.h5o.open(at, part)
    if not isinstance(at, h5py.h5d.DatasetID):
        raise ValueError(f"{name} is no dataset")
    return at


def _place(h5: h5py.File, name: str, shape: tuple[int, ...], kind: str, record: np.dtype | None = None) -> Place:
    """Return where a dataset lies; `record` is the one type that it may have, where the kind says too little."""
    dataset = _hard(h5, name)
    properties, dtype = dataset.get_create_plist(), dataset.dtype
    plain = properties.get_layout() == h5py.h5d.CONTIGUOUS and not properties.get_external_count()
    if not plain or properties.get_nfilters():
        raise ValueError(f"{name} is not stored as plain bytes in the file")
    if dataset.shape != shape or dtype.kind != kind:
        raise ValueError(f"{name} is {dtype} {dataset.shape}, expected kind {kind!r} {shape}")
    if record not in (None, dtype):
        raise ValueError(f"{name} is {dtype}, expected {record}")
    place = Place(dataset.get_offset() if math.prod(shape) else 0, shape, record or np.dtype(dtype.str))  # plain numpy
    if dataset.get_storage_size() != place.bytes or place.end > h5.id.get_filesize():  # 0: it was never allocated
        raise ValueError(f"{name} lies beyond the end of the file: it is cut short")
    return place


def _content(images: ImageTable, provenance: Provenance) -> dict[str, np.ndarray]:
    """Return the content of every dataset that is written once, by name."""
    classes = to_json(sorted({label for label in images.labels or [] if label}))
    texts = {"description": provenance.to_json(), "classes": classes}
    headers = {name: np.array([text.encode()]) for name, text in texts.items()}
    return headers | {f"images/{name}": values for name, values in images.columns().items()}


def lay_out(
    h5: h5py.File, images: ImageTable, provenance: Provenance, *, thumbnails: bool = False
) -> dict[str, np.ndarray]:
    """Give every dataset its place; there is one for thumbnails if they are wanted.

    Nothing is written into them: HDF5 would keep small datasets in a buffer, which it loses without an error when the
    disk is full. What is to be written once is returned, by name.
    """
    n, content = len(images), _content(images, provenance)
    # text of fixed length everywhere: HDF5 keeps other text in a heap, where damage makes it spin
    h5.attrs["format"] = np.bytes_(FORMAT)
    h5.attrs["format_version"] = FORMAT_VERSION
    for name, values in content.items():
        text = values.dtype.kind == "S"
        dtype_of = h5py.string_dtype("utf-8", values.dtype.itemsize) if text else values.dtype
        dataset = _empty(h5, name, values.shape, dtype_of)
        dataset.attrs["sha256"] = np.bytes_(digest_of(values))
    _empty(h5, "images/sha256", (n, 32), np.dtype("u1"))
    _empty(h5, "images/state", (n,), np.dtype("u1"))
    _empty(h5, "images/crc32", (n, len(provenance.stored_keys)), np.dtype("<u4"))
    _empty(h5, "images/error", (n,), h5py.string_dtype("utf-8", ERROR_BYTES))
    if thumbnails:
        _empty(h5, THUMBNAILS, (n,), THUMBNAIL)
    for name in provenance.stored_layers:
        layer = provenance.layers[name]
        dtype = np.dtype(layer.dtype or "float32").newbyteorder("<")
        dataset = _empty(h5, f"codes/{name}", (n, *provenance.code_shape(name)), dtype)
        dataset.attrs["pooling"] = np.bytes_(layer.pooling)
        dataset.attrs["map_shape"] = np.asarray(layer.map_shape, np.int64)
    for name, target in provenance.links.items():
        h5[f"codes/{name}"] = h5[f"codes/{target}"]
    for name in provenance.maps:
        _empty(h5, map_key(name), (n, *provenance.map_shape(name)), MAP_TYPE)
    return content


def _empty(h5: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
    """Create a contiguous dataset whose bytes have their place in the file at once and are not filled."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    group, _, leaf = name.rpartition("/")
    parent = h5.require_group(group) if group else h5
    space = h5py.h5s.create_simple(shape)
    return h5py.Dataset(
        h5py.h5d.create(parent.id, leaf.encode(), h5py.h5t.py_create(dtype, logical=True), space, dcpl=properties)
    )


def allocate(path: Path) -> None:
    """Claim the disk space of the whole file, so that a full disk shows before the first image is read."""
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate") and (size := path.stat().st_size):
            os.posix_fallocate(file.fileno(), 0, size)
        os.fsync(file.fileno())
