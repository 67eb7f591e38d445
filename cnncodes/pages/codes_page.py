"""A codes file in a notebook, with pictures of some of its images."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from cnncodes.codes.file import CodesFile
from cnncodes.codes.summary import summary_html
from cnncodes.images.image_set import Images
from cnncodes.images.loading import load_images
from cnncodes.images.sheet import draw_sheet
from cnncodes.pages.stored_images import stored_images

__all__ = ["CodesPage", "codes_page"]

N_PICTURES = 36
PICTURE_SIDE = 64  # pixels


@dataclass(frozen=True)
class CodesPage:
    """What a notebook shows of a codes file.

    Attributes
    ----------
    html : str
        A table and a picture.
    """

    html: str

    def _repr_html_(self) -> str:
        return self.html


def codes_page(codes: str | os.PathLike[str] | CodesFile, images: Images | None = None) -> CodesPage:
    """Show what a codes file holds: the table that the file itself shows in a notebook, and 36 of its images.

    Parameters
    ----------
    codes : path or CodesFile
        The codes file.
    images : path, sequence, ndarray or ImageSet, optional
        What the file was made from, or a part of that; by default the small pictures that the file keeps.

    Returns
    -------
    CodesPage
        The table and the pictures; images of the same class stand side by side.

    Raises
    ------
    CodesFileError
        There is no such file, or it is no codes file.
    ImagesError
        None of the chosen images is among those given; or none are, and the file keeps no small pictures.

    Examples
    --------
    >>> codes_page("codes.h5")  # doctest: +SKIP
    """
    if not isinstance(codes, CodesFile):
        with CodesFile.open(codes) as file:
            return codes_page(file, images)
    html = summary_html(codes.info())
    rows = codes.rows(labelled=False)
    if not len(rows):
        return CodesPage(html)
    by_class = rows[np.argsort(codes.labels[rows], kind="stable")]
    chosen = by_class[np.linspace(0, len(rows) - 1, min(len(rows), N_PICTURES)).astype(int)]
    ids = codes.ids[chosen].tolist()
    image_set = stored_images(codes, ids, PICTURE_SIDE) if images is None else load_images(images)
    sheet = draw_sheet(image_set, ids, PICTURE_SIDE)
    text = f"{len(sheet.places)} of the images, in the order of their classes"
    return CodesPage(f'{html}<img src="{sheet.data}" alt="{text}">')
