"""Images and what is known about them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cnncodes.errors import DecodeError
from cnncodes.images.files import reason_of, unreadable
from cnncodes.images.labels import Labels
from cnncodes.images.stored_file import StoredFile, is_file
from cnncodes.names import RowsByName
from cnncodes.urls import public_url

if TYPE_CHECKING:
    from PIL import Image

    from cnncodes.system.claims import Claim

__all__ = ["EXPECTED", "ImageSet", "ImageSource", "Images", "name_of"]

# An array is uint8, (H, W) or (H, W, 3)
ImageSource: TypeAlias = "str | os.PathLike[str] | StoredFile | Image.Image | np.ndarray"
Images: TypeAlias = "ImageSource | Sequence[ImageSource] | ImageSet"  # whatever `load_images` takes

EXPECTED = (
    "expected a folder with one folder of images a class, a folder with train/ and test/ folders of those, "
    "a .zip or .tar archive of either, a .csv or .tsv file with columns path,label, one image, or a .npy or .npz file"
)


@dataclass
class ImageSet:
    """Images and what is known about them, one entry an image.

    Attributes
    ----------
    ids : list of str
        Unique and storable as UTF-8: relative POSIX paths, or zero-padded numbers for arrays. In file names, bytes
        that are not UTF-8 are written ``\\xNN``, and then each backslash twice.
    sources : sequence of Path, StoredFile, ndarray or PIL.Image.Image
        The images, not decoded.
    labels, groups, splits : list of str or None
        One text for each image, empty where it has none; whatever means a missing value, as NaN in pandas, becomes
        empty. Splits are ``"train"``, ``"val"`` or ``"test"``.
    root : Path, str or None
        The folder that the ids are relative to, or its URL; None for images that are no files below one folder.
    failures : dict of str to str
        Reason by id, for what is known to be unreadable already. They are images like the others.
    notes : list of str
        Remarks for the user on what was left out or is odd.
    left_out : dict of str to Path or StoredFile
        Files by id that are no images of their own, as masks. An older codes file may hold them.

    Examples
    --------
    >>> images = ImageSet(["a", "b"], [np.zeros((8, 8), np.uint8)] * 2, labels=["cat", "dog"])
    >>> len(images), images.classes, images.take([1]).labels
    (2, ['cat', 'dog'], ['dog'])
    """

    ids: list[str]
    sources: Sequence[ImageSource]
    labels: list[str] | None = None
    groups: list[str] | None = None
    splits: list[str] | None = None
    root: Path | str | None = None
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, Path | StoredFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("labels", "groups", "splits"):
            if (values := getattr(self, name)) is not None:
                setattr(self, name, Labels.read(values, len(self.ids), f"the {name} of the images").texts())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: int | slice) -> Any:
        """Return the image of a row, or a list of them: so scikit-learn takes a set apart into folds."""
        return self.sources[rows]

    @property
    def classes(self) -> list[str]:
        """The distinct labels, sorted."""
        return sorted(set(self.labels or []) - {""})

    @property
    def row_of(self) -> RowsByName:
        """The row of each id, whatever form of Unicode its accents have."""
        return RowsByName(self.ids)

    def take(self, rows: Sequence[int]) -> ImageSet:
        """Return some of the images, with what is known about them.

        Parameters
        ----------
        rows : sequence of int
            Positions of the images, counted from 0; the new set has them in this order.

        Returns
        -------
        ImageSet
            A new set; this one stays as it is.
        """

        def pick(values: Sequence[Any] | None) -> Any:
            return None if values is None else [values[row] for row in rows]

        ids = pick(self.ids)
        failures = {name: self.failures[name] for name in ids if name in self.failures}
        columns = {name: pick(getattr(self, name)) for name in ("labels", "groups", "splits")}
        return ImageSet(ids, pick(self.sources), **columns, root=self.root, failures=failures, notes=list(self.notes))

    def read_bytes(self, row: int, claim: Claim | None = None) -> bytes:
        """Return the bytes of an image file.

        Parameters
        ----------
        row : int
            Position of the image, counted from 0.
        claim : Claim, optional
            Claim to which the memory that they need is added; a large file is read only if there is so much.

        Returns
        -------
        bytes
            The whole file, not decoded.

        Raises
        ------
        DecodeError
            The file cannot be read; the message says why.
        TypeError
            The image is an array or a PIL image, and no file.
        """
        file = self.sources[row]
        if not is_file(file):
            raise TypeError(f"image {self.ids[row]} is a {type(file).__name__}, not a file")
        if reason := self.failures.get(self.ids[row]) or (unreadable(file) if isinstance(file, Path) else ""):
            raise DecodeError(reason)
        try:
            if claim is not None:
                claim.add(file.stat().st_size if isinstance(file, Path) else max(0, file.size))
                if isinstance(file, StoredFile):
                    with claim.waiting():
                        file.reach()
            return file.read_bytes()
        except OSError as error:
            raise DecodeError(reason_of(error)) from error
        except MemoryError as error:
            detail = f" ({error})" if str(error) else ""
            raise DecodeError(f"not enough memory to read the file{detail}") from error


def name_of(source: Any) -> str:
    """Return what an error calls a source of images: its path, or that of its folder, where there is one.

    Examples
    --------
    >>> name_of("photos/"), name_of([np.zeros((8, 8), np.uint8)])
    ('photos/', 'the images given')
    """
    if not isinstance(source, (str, os.PathLike)):
        source = getattr(source, "root", None) or getattr(source, "path", None) or "the images given"
    return public_url(str(source))
