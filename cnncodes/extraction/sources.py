"""Reads images of a set, not decoded, with their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.extraction.read_ahead import ReadAhead
from cnncodes.images.decoding import colour_profile, to_pixels
from cnncodes.images.image_set import ImageSet
from cnncodes.images.stored_file import is_file
from cnncodes.system.claims import Claim

__all__ = ["all_digests", "digests_of", "read_source"]

ROWS_AHEAD = 256  # that are asked for where rows are taken one by one


def read_source(
    images: ImageSet,
    row: int,
    remarks: list[str] | None = None,
    *,
    ignore_profiles: bool = False,
    claim: Claim | None = None,
    ahead: ReadAhead | None = None,
) -> tuple[bytes | np.ndarray, np.ndarray]:
    """Return the undecoded bytes of a file, or the pixels of an array or a PIL image; and the SHA-256 of either.

    The SHA-256 of a PIL image is that of its pixels, with its colour profile unless that is sRGB.
    """
    source: Any = images.sources[row]
    if images.ids[row] in images.failures:
        raise DecodeError(images.failures[images.ids[row]])
    if is_file(source):
        source = images.read_bytes(row, claim) if ahead is None else ahead.read(row, claim)
        content = source
    else:
        image, profile = source, colour_profile(source)
        source = to_pixels(image, ignore_profiles=ignore_profiles, remarks=remarks)  # a palette changes what is seen
        plain = to_pixels(image, ignore_profiles=True) if profile and not ignore_profiles else source
        content = str(plain.shape).encode() + plain.tobytes() + profile
    return source, np.frombuffer(hashlib.sha256(content).digest(), np.uint8)


def digests_of(images: ImageSet, rows: Sequence[int]) -> Iterator[bytes | DecodeError]:
    """Yield the SHA-256 of each of some images, or why it cannot be read; several that are far away are read at a time.

    Parameters
    ----------
    images : ImageSet
    rows : sequence of int
    """
    with ReadAhead(images) as ahead:
        ahead.ask(rows[:ROWS_AHEAD])
        for place, row in enumerate(rows):
            ahead.ask(rows[place + ROWS_AHEAD : place + ROWS_AHEAD + 1])
            try:
                yield read_source(images, row, ahead=ahead)[1].tobytes()
            except DecodeError as error:
                yield error


def all_digests(images: ImageSet) -> list[bytes]:
    """Return the SHA-256 of every image.

    Raises
    ------
    ImagesError
        One cannot be read.
    """
    digests = []
    for name, digest in zip(images.ids, digests_of(images, range(len(images))), strict=True):
        if isinstance(digest, DecodeError):
            raise ImagesError(f"{name}: {digest}; leave this image out") from digest
        digests.append(digest)
    return digests
