"""Reads images and makes them small, for a codes file that keeps no small pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cnncodes.codes.thumbnails import SIDE, blank, pack
from cnncodes.errors import DecodeError
from cnncodes.images.decoding import decode, to_pixels
from cnncodes.images.image_set import ImageSet
from cnncodes.images.network import askers
from cnncodes.images.stored_file import reading_threads
from cnncodes.system.claims import Claim
from cnncodes.system.progress import Progress

__all__ = ["read_thumbnails"]


def read_thumbnails(images: ImageSet, rows: Sequence[int], progress: Progress | None = None) -> np.ndarray:
    """Decode images and make them small, in threads.

    Parameters
    ----------
    images : ImageSet
        Images, some of which are read.
    rows : sequence of int
        Positions of the images to read, counted from 0.
    progress : callable, optional
        Called with (done, total, failed).

    Returns
    -------
    ndarray of THUMBNAIL, shape (n,)
        Records as a codes file keeps them; those of images that cannot be read are blank.
    """
    records = blank(len(rows))

    def read(at: int) -> None:
        source = images.sources[rows[at]]
        with Claim() as claim:
            try:
                if isinstance(source, (np.ndarray, Image.Image)):
                    pixels = to_pixels(source)
                else:
                    data = images.read_bytes(rows[at], claim)
                    pixels = decode(data, enough=lambda width, height: (SIDE, SIDE), claim=claim)
            except DecodeError:
                return
            image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
            small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            records[at] = pack(np.asarray(small)[None], np.array([image.size]))[0]

    with askers(reading_threads(images.sources)) as pool:
        for done, _ in enumerate(pool.map(read, range(len(rows))), start=1):
            if progress is not None:
                progress(done, len(rows), 0)
    return records
