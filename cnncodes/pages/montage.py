"""The page of the images that are most like a new one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnncodes.codes.file import CodesFile
from cnncodes.images.loading import load_images
from cnncodes.images.sheet import draw_sheet
from cnncodes.neighbours.similar import Neighbour
from cnncodes.pages.render import is_page, render_page
from cnncodes.pages.stored_images import stored_images
from cnncodes.system.optional import require

__all__ = ["is_montage", "montage"]

TEMPLATE = "similar.html.j2"
PICTURE_SIDE = 224  # pixels


def montage(query: Any, neighbours: Sequence[Neighbour], images: Any, *, allow_outside: bool = False) -> str:
    """Return a page with the pictures of a query and of the images that are most like it.

    Parameters
    ----------
    query : path, PIL.Image.Image or ndarray
        The image that `similar` was called with.
    neighbours : sequence of Neighbour
        The images that it returned.
    images : path, sequence, ndarray, ImageSet or CodesFile
        The images that the codes file was made from; or the open file itself, for the small pictures that it keeps.
    allow_outside : bool, default=False
        Let a manifest name files outside its folder.

    Returns
    -------
    str
        The page, as HTML that loads nothing else.

    Raises
    ------
    MissingLibraryError
        Jinja is missing.
    ImagesError
        `images` has none of these images, or the codes file keeps no small pictures.

    Examples
    --------
    >>> page = montage("query.jpg", similar("query.jpg", "codes.h5"), "photos/")  # doctest: +SKIP
    """
    require("jinja2", "a page")
    is_path = isinstance(query, (str, os.PathLike))
    query_set = load_images(query if is_path else [query], labelled=False, allow_outside=allow_outside)
    ids = [neighbour.path for neighbour in neighbours]
    if isinstance(images, CodesFile):
        image_set = stored_images(images, ids, PICTURE_SIDE)
    else:
        image_set = load_images(images, allow_outside=allow_outside)
    return render_page(
        TEMPLATE,
        name=query_set.ids[0] if is_path else "an image",
        query_sheet=draw_sheet(query_set, query_set.ids, PICTURE_SIDE),
        sheet=draw_sheet(image_set, ids, PICTURE_SIDE),
        neighbours=neighbours,
    )


def is_montage(path: Path) -> bool:
    """Whether a file is a page that `montage` made."""
    return is_page(path, TEMPLATE)
