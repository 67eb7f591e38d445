"""Makes images small, and puts many of them on one sheet."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images.decoding import decode, to_pixels
from cnncodes.images.image_set import ImageSet
from cnncodes.images.network import askers
from cnncodes.images.stored_file import reading_threads
from cnncodes.system.claims import Claim

if TYPE_CHECKING:
    from cnncodes.system.progress import Progress

__all__ = ["Sheet", "draw_sheet"]

WEBP_QUALITY = 78  # below it, small pictures are hard to judge
WEBP_MAX_SIDE = 16_383  # pixels


@dataclass
class Sheet:
    """One picture that holds many small ones, in rows from the top left.

    Attributes
    ----------
    data : str
        The picture as a data URI; empty where there is none.
    side : int
        Side of each small picture, in pixels.
    columns, lines : int
        How many small ones there are from left to right and from top to bottom.
    places : dict of str to int
        Place of the picture of an id, counted from 0 along the rows.
    missing : list of str
        Ids without a picture.
    """

    data: str = ""
    side: int = 0
    columns: int = 0
    lines: int = 0
    places: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def draw_sheet(images: ImageSet, ids: Sequence[str], side: int, progress: Progress | None = None) -> Sheet:
    """Draw images on one sheet, each whole, in a square of `side` pixels that is clear beside it.

    Parameters
    ----------
    images : ImageSet
        Images that have these ids.
    ids : sequence of str
        Ids of the images to draw; one that occurs again is drawn once.
    side : int
        Side of each small picture, in pixels.
    progress : callable, optional
        Called with (done, total, failed).

    Returns
    -------
    Sheet
        Its `missing` lists the ids that have no picture here, or whose image cannot be read.

    Raises
    ------
    ImagesError
        None of the ids is among the images.
    """
    row_of = images.row_of
    here = [name for name in dict.fromkeys(ids) if name in row_of]
    if ids and not here:
        raise ImagesError(
            f"the images have none of the names of the codes file, as {ids[0]!r}; give the folder that it was made from"
        )
    pictures: dict[str, Image.Image] = {}
    missing = [name for name in dict.fromkeys(ids) if name not in row_of]
    with askers(reading_threads(images.sources)) as pool:
        small = pool.map(lambda name: _small(images, row_of[name], side), here)
        for done, (name, picture) in enumerate(zip(here, small, strict=True), start=1):
            if picture is None:
                missing.append(name)
            else:
                pictures[name] = picture
            if progress is not None:
                progress(done, len(here), len(missing))
    return _joined(pictures, side, missing)


def _small(images: ImageSet, row: int, side: int) -> Image.Image | None:
    source = images.sources[row]
    with Claim() as claim:
        try:
            if isinstance(source, (np.ndarray, Image.Image)):
                pixels = to_pixels(source)
            else:
                data = images.read_bytes(row, claim)
                pixels = decode(data, enough=lambda width, height: (side, side), claim=claim)
        except DecodeError:
            return None
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        scale = side / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def _joined(pictures: dict[str, Image.Image], side: int, missing: list[str]) -> Sheet:
    if not pictures:
        return Sheet(missing=missing)
    columns = min(WEBP_MAX_SIDE // side, int(np.ceil(np.sqrt(len(pictures)))))
    lines = -(-len(pictures) // columns)
    sheet = Image.new("RGBA", (columns * side, lines * side))
    for place, picture in enumerate(pictures.values()):
        left, top = place % columns * side, place // columns * side
        sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=WEBP_QUALITY, method=4)
    data = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    return Sheet(data, side, columns, lines, {name: place for place, name in enumerate(pictures)}, missing)
