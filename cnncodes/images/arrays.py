"""Images that are in memory, or in an array file."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.errors import ImagesError, first_line
from cnncodes.images.archives import ArchiveMembers
from cnncodes.images.files import as_text, failures_of, numbered, some_names
from cnncodes.images.image_set import EXPECTED, ImageSet
from cnncodes.images.labels import Labels, remarks_on
from cnncodes.images.manifests import named_files
from cnncodes.images.remote import RemoteFile
from cnncodes.images.stored_file import StoredFile
from cnncodes.system.memory import memory_left
from cnncodes.urls import as_path_or_url, is_url, public_url

__all__ = ["ARRAYS", "from_numpy", "from_sequence"]

ARRAYS = (".npy", ".npz")
IMAGE_KEYS, LABEL_KEYS = ("images", "x"), ("labels", "y")
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}  # by version
TEXT_BYTES = 60  # that Python takes for a text, whatever its length
FIRST_BYTES = (b"\x93", b"P", b"\x80")  # of .npy, of .npz, of a pickle


def from_sequence(source: Any, labels: Any, name: str) -> ImageSet:
    """Return images that are in memory, or whose paths are.

    Parameters
    ----------
    source : sequence of path, URL, StoredFile, PIL.Image.Image or ndarray; ndarray; or PIL.Image.Image
        The images.
    labels : array-like, shape (n,), or None
        Their labels: of all of them, or of none.
    name : str
        Name of the source, for errors.

    Raises
    ------
    ImagesError
        There are no images, or one of them is of another type or shape.
    LabelsError
        As for `Labels.read`; or some images have a label and others have none.
    """
    if hasattr(source, "getexif"):
        source = [source]
    if hasattr(source, "to_numpy"):  # a pandas column, or a frame
        source = source.to_numpy()
    if isinstance(source, np.ndarray):
        if source.dtype.kind not in "OUT" and (not source.ndim or len(source)):
            _check_array(source, name)
        elif source.ndim == 2:
            if source.shape[1] != 1:
                raise ImagesError(f"{name} is a table of shape {source.shape}; give the one column of the images")
            source = source[:, 0]
    try:
        sources = list(source)
        if all(isinstance(item, (list, tuple)) and len(item) == 1 for item in sources):  # a column, row by row
            sources = [item[0] for item in sources]
    except TypeError as error:
        raise ImagesError(
            f"images are given as a {type(source).__name__}; {EXPECTED}, or a sequence of them"
        ) from error
    if not sources:
        raise ImagesError(f"{name} is empty: no images were given")
    texts, notes = None, []
    if labels is not None:
        given = Labels.read(labels, len(sources), name)
        if (texts := given.texts()) is None:
            notes = ["all labels are empty: the images have no labels"]
        else:
            given.refuse_missing("label all images, or none")
            notes = remarks_on(texts)
    members = ArchiveMembers()
    if all(isinstance(item, (str, os.PathLike, StoredFile)) for item in sources):
        files = [_file(item, members) for item in sources]
        ids = numbered([as_text(_name(item, file)) for item, file in zip(sources, files, strict=True)])
        return ImageSet(ids, files, texts, failures=failures_of(ids, files), notes=notes)
    ids = [f"{i:06d}" for i in range(len(sources))]
    for i, item in enumerate(sources):
        if isinstance(item, (str, os.PathLike, StoredFile)):
            sources[i] = _file(item, members)
        elif not hasattr(item, "getexif"):
            _check_one(item, f"image {i} of {name}")
    return ImageSet(ids, sources, texts, failures=failures_of(ids, sources), notes=notes)


def _file(source: str | os.PathLike[str] | StoredFile, members: ArchiveMembers) -> Path | StoredFile:
    """Return the file that a path or a URL names."""
    if isinstance(source, StoredFile):
        return source
    text = as_path_or_url(source)
    if (member := members.find(text)) is not None:
        return member
    return RemoteFile.of(text) if is_url(text) else Path(text)


def _name(source: str | os.PathLike[str] | StoredFile, file: Path | StoredFile) -> str:
    if isinstance(file, Path):
        return file.as_posix()
    return public_url(source) if isinstance(source, str) else str(file)


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


def from_numpy(path: Path, labels: Any, allow_outside: bool) -> ImageSet:
    """Return the images of a ``.npy`` or ``.npz`` file; `labels` take the place of those in the file.

    An array of text names files, as a table does.

    Parameters
    ----------
    path : Path
    labels : array-like, shape (n,), or None
    allow_outside : bool
        As for `load_images`.

    Raises
    ------
    ImagesError
        The file cannot be read, holds other arrays, or Python objects, which are never loaded; or memory does not hold
        what it holds; or it names files that are not there, or lie outside of its folder.
    """
    try:
        if path.suffix.lower() == ".npy":
            images, own_labels = np.load(path, mmap_mode="r", allow_pickle=False), None
        else:
            images, own_labels = _unpacked(path)
        names = images.ravel().tolist() if images.dtype.kind == "U" else None
    except ImagesError:
        raise
    except Exception as error:  # numpy, zip and zlib each raise errors of their own
        pickled = any(word in str(error) for word in ("Object arrays", "Python objects", "pickle"))
        what = "holds Python objects, which are never loaded" if pickled else f"cannot be read ({first_line(error)})"
        with path.open("rb") as file:  # numpy takes whatever it does not know for a pickle
            if (pickled or isinstance(error, zipfile.BadZipFile)) and file.read(1) not in FIRST_BYTES:
                what = "is no file of NumPy"
        raise ImagesError(f"{path}: {what}; save a uint8 array with numpy.save or numpy.savez") from error
    labels = own_labels if labels is None else labels
    if names is None:
        return from_sequence(images, labels, str(path))
    if images.shape[:1] != (len(names),):
        raise ImagesError(f"{path} holds names of shape {images.shape}; expected one path an image")
    ids, paths = named_files(path, names, range(1, len(names) + 1), allow_outside, unit="entry")
    labelled = from_sequence(paths, labels, str(path))
    return ImageSet(
        ids, paths, labelled.labels, root=path.parent, failures=failures_of(ids, paths), notes=labelled.notes
    )


def _unpacked(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the images and the labels of a ``.npz`` file, unless memory does not hold what the file declares."""
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.namelist() if member.lower().endswith(".npy")]
        wanted = [[member for member in members if member[:-4].lower() in keys] for keys in (IMAGE_KEYS, LABEL_KEYS)]
        if len(wanted[0]) != 1 or len(wanted[1]) > 1:
            held = [name.removesuffix(".npy") for name in sorted(archive.namelist())]
            raise ImagesError(
                f"{path}: holds {some_names(held) or 'nothing'}; expected one array 'images' (or 'x') and, for labels, "
                "one 'labels' (or 'y')"
            )
        both = [*wanted[0], *wanted[1]]
        needed, free = sum(_declared_bytes(archive, member) for member in both), memory_left()
        if needed > free:
            raise ImagesError(
                f"{path}: its arrays take {needed / 1e9:,.1f} GB, and {free / 1e9:.1f} GB of memory are free; save the "
                "images by numpy.save as .npy, which is not read into memory whole"
            )
        arrays = []
        for member in both:
            with archive.open(member) as stream:
                arrays.append(np.lib.format.read_array(stream, allow_pickle=False))
    return arrays[0], arrays[1] if len(arrays) > 1 else None


def _declared_bytes(archive: zipfile.ZipFile, member: str) -> int:
    """Return the bytes that an array takes, as its header says; each text becomes one of Python."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = HEADERS[version](stream)
    return math.prod(shape) * (dtype.itemsize + TEXT_BYTES * (dtype.kind in "SU"))
