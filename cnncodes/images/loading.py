"""Which images there are, with which labels, groups and splits."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cnncodes.errors import ImagesError
from cnncodes.images.archive_names import archives_among, archives_in, archives_named
from cnncodes.images.archives import from_archives
from cnncodes.images.arrays import ARRAYS, from_numpy, from_sequence
from cnncodes.images.files import HEIC_SUFFIXES, IMAGE_SUFFIXES, as_on_disk, as_text, failures_of
from cnncodes.images.folders import from_folder, from_walk
from cnncodes.images.image_set import EXPECTED, Images, ImageSet
from cnncodes.images.manifests import MANIFESTS, from_manifest
from cnncodes.images.remote import RemoteFile
from cnncodes.images.remote_folders import RemoteWalk, kind_of
from cnncodes.urls import WEB_SCHEMES, as_path_or_url, is_url, scheme_of

__all__ = ["IMAGE_SUFFIXES", "ImageSet", "load_images"]

LOST_SLASH = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]", re.IGNORECASE)  # what a Path makes of a URL
LABELS_BESIDE = "labels are given beside a sequence or array; here they come from folders or a table"


def load_images(
    source: Images, *, labels: Sequence[str] | None = None, labelled: bool = True, allow_outside: bool = False
) -> ImageSet:
    """Find images and their labels.

    Parameters
    ----------
    source : path, sequence, PIL.Image.Image, ndarray or ImageSet
        Folder of class folders, or of ``train`` and ``test`` (or ``val``) folders of those, in any case of letters;
        folder of images without labels; CSV or TSV file with columns ``path,label[,group][,split]``; one image;
        ``.npy``, or ``.npz`` with ``images`` (or ``x``) and ``labels`` (or ``y``), of pixels or of paths; or a sequence
        of paths, PIL images or arrays; or a uint8 array of shape (n, H, W, 3) or (n, H, W). Folders, tables and images
        may also be URLs that fsspec knows (``s3://``, ``gs://``, ``hf://``, ``https://``), and so may paths in tables.
        An archive (``.zip``, ``.tar``, ``.tar.gz``, …) is read as the folder that it was made of, and so are several,
        by a pattern (``shard-{000..099}.tar``) or as a list; ``zip://folder::a.zip`` means a folder in one.
    labels : sequence of str or int, optional
        For a sequence, an array or an array file: one label for each image. ``None``, NaN and blank text mean that
        there is none, which must then be so for all of them.
    labelled : bool, default=True
        Take folders as classes, and require the column ``label`` of a table. If False, each image below a folder is
        taken as it is.
    allow_outside : bool, default=False
        Let a table, or an array of paths, name files outside its folder.

    Returns
    -------
    ImageSet
        The images in the order of their names, of the rows of the table, or of the sequence; an ImageSet is returned
        as it is.

    Raises
    ------
    ImagesError
        There are no images, or it is not clear what is meant.
    LabelsError
        The labels are of another number than the images, of several types, or neither text nor integers.

    Examples
    --------
    >>> import numpy as np
    >>> images = load_images(np.zeros((2, 28, 28), np.uint8), labels=["shoe", "bag"])
    >>> images.ids, images.classes
    (['000000', '000001'], ['bag', 'shoe'])
    """
    if isinstance(source, ImageSet):
        if labels is not None:
            raise ImagesError("labels are given beside an ImageSet, which has its own: set its `labels`")
        return source
    if (archives := archives_named(source)) is not None and labels is None:
        return from_archives(archives, labelled)
    if not isinstance(source, (str, os.PathLike)):
        return from_sequence(source, labels, "the sequence")
    text = as_path_or_url(source)
    if is_url(text):
        return _from_url(text, labels, labelled, allow_outside)
    path = Path(as_on_disk(text))
    suffix = path.suffix.lower()
    if not str(source) or not os.path.lexists(path):
        hint = "; a URL has two slashes, and is given as text, not as a Path" if LOST_SLASH.match(str(source)) else ""
        raise ImagesError(f"{str(source)!r}: no such file or folder{hint}; {EXPECTED}")
    if suffix in ARRAYS and path.is_file():
        return from_numpy(path, labels, allow_outside)
    if labels is not None:
        raise ImagesError(f"{path}: {LABELS_BESIDE}")
    if path.is_dir():
        archives = archives_in(os.fspath(path))
        return from_folder(path, labelled) if archives is None else from_archives(archives, labelled)
    if suffix in MANIFESTS:
        return from_manifest(path, labelled, allow_outside)
    if suffix in IMAGE_SUFFIXES | HEIC_SUFFIXES:
        name = as_text(path.name)
        return ImageSet([name], [path], root=path.parent, failures=failures_of([name], [path]))
    raise _not_read(str(path), suffix)


def _from_url(url: str, labels: Sequence[str] | None, labelled: bool, allow_outside: bool) -> ImageSet:
    """Return the images of a folder, a table or a file that a URL names."""
    file = RemoteFile.of(url)
    shown, suffix, is_web = str(file), file.suffix, scheme_of(url) in WEB_SCHEMES
    if labels is not None:
        raise ImagesError(f"{shown}: {LABELS_BESIDE}")
    if not is_web and kind_of(url) == "directory":
        walk = RemoteWalk(url)
        archives = None if walk.sources else archives_among(url, walk.base, walk.others)
        return from_walk(walk, shown, labelled) if archives is None else from_archives(archives, labelled)
    if suffix in MANIFESTS:
        return from_manifest(file, labelled, allow_outside)
    if suffix in IMAGE_SUFFIXES | HEIC_SUFFIXES:
        return ImageSet([as_text(shown.rpartition("/")[2])], [file], root=file.parent)
    if suffix in ARRAYS:
        raise ImagesError(f"{shown}: {suffix} files are read from a disk alone; copy it to this machine first")
    if is_web:
        raise ImagesError(
            f"{shown}: does not end like an image, and a web server lists no folders; give a .csv or .tsv file whose "
            "column path names the images, with any ending"
        )
    raise _not_read(shown, suffix)


def _not_read(name: str, suffix: str) -> ImagesError:
    what = f"{suffix} files are" if suffix else "a file without suffix is"
    return ImagesError(f"{name}: {what} not read; {EXPECTED}")
