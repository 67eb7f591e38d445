"""The small pictures that a codes file keeps, as images that a page can show without the folder."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cnncodes.codes.file import CodesFile
from cnncodes.codes.thumbnails import present, to_rgb
from cnncodes.errors import ImagesError, parameter
from cnncodes.images.image_set import ImageSet

__all__ = ["stored_images"]


def stored_images(file: CodesFile, ids: list[str], side: int) -> ImageSet:
    """Return the small pictures of images, in the shape of the images.

    Parameters
    ----------
    file : CodesFile
    ids : list of str
        Ids of images of the file; those without a picture are left out.
    side : int
        Longer side of the pictures, in pixels.

    Raises
    ------
    ImagesError
        The file keeps no small pictures.
    """
    if not file.has_thumbnails:
        raise ImagesError(
            f"{file.path}: keeps no small pictures; give the images, or add them with "
            f"{parameter('thumbnails', True, of='extract')}"
        )
    row_of = {name: row for row, name in enumerate(file.ids.tolist())}
    records = file.thumbnails(np.array([row_of[name] for name in ids], np.int64))
    here = np.flatnonzero(present(records))
    pictures = []
    for square, size in zip(to_rgb(records[here]), records["size"][here].astype(float), strict=True):
        width, height = np.maximum(1, np.rint(side * size / size.max())).astype(int).tolist()
        pictures.append(np.asarray(Image.fromarray(square).resize((width, height), Image.Resampling.BICUBIC)))
    return ImageSet([ids[i] for i in here.tolist()], pictures)
