"""The small picture that a codes file keeps of each image: how it is packed, sealed and made an RGB picture again."""

from __future__ import annotations

import zlib

import numpy as np

from cnncodes.codes.columns import bytes_of_rows

__all__ = ["COLOUR_SIDE", "SIDE", "THUMBNAIL", "blank", "matching", "pack", "present", "seal", "to_rgb"]

SIDE = 64  # pixels: grey
COLOUR_SIDE = 16  # pixels: blue and red difference, of which the eye sees less
THUMBNAIL = np.dtype(  # 4,616 bytes; with full colours it would be 12,296
    [
        ("grey", "u1", (SIDE, SIDE)),
        ("colour", "u1", (2, COLOUR_SIDE, COLOUR_SIDE)),
        ("size", "<u2", (2,)),  # width and height of the image as it was decoded; zeros where there is no picture
        ("crc32", "<u4"),
    ]
)
MAX_SIZE = np.iinfo(np.uint16).max
# Rec. 601, as in JPEG: rows are grey, blue and red difference
FROM_RGB = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
NO_COLOUR = np.float32(128)  # a difference where there is no colour


def blank(n: int) -> np.ndarray:
    """Return `n` records that hold no picture."""
    return np.zeros(n, THUMBNAIL)


def present(records: np.ndarray) -> np.ndarray:
    """Return which records hold a picture, shape (n,), bool."""
    return records["size"].min(axis=1) > 0


def pack(small: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Make records of images that are small already.

    Parameters
    ----------
    small : ndarray of uint8, shape (n, 64, 64, 3)
        Each whole image as red, green and blue, whatever its aspect was.
    sizes : ndarray of int, shape (n, 2)
        Width and height of each image, in pixels.

    Returns
    -------
    ndarray of THUMBNAIL, shape (n,)
        Not sealed: `seal` adds the checksums.

    Examples
    --------
    >>> red = np.zeros((1, 64, 64, 3), np.uint8)
    >>> red[..., 0] = 255
    >>> record = pack(red, np.array([[640, 480]]))[0]
    >>> int(record["grey"][0, 0]), record["colour"][:, 0, 0].tolist(), record["size"].tolist()
    (76, [85, 255], [640, 480])
    """
    records = blank(len(small))
    pixels = small.astype(np.float32)
    cell = SIDE // COLOUR_SIDE
    cells = pixels.reshape(len(small), COLOUR_SIDE, cell, COLOUR_SIDE, cell, 3).mean(axis=(2, 4))
    records["grey"] = np.rint(pixels @ FROM_RGB[0])
    records["colour"] = np.clip(np.rint(cells @ FROM_RGB[1:].T + NO_COLOUR), 0, 255).transpose(0, 3, 1, 2)
    records["size"] = np.clip(sizes, 1, MAX_SIZE)
    return records


def to_rgb(records: np.ndarray) -> np.ndarray:
    """Return pictures in red, green and blue, uint8, shape (n, 64, 64, 3).

    Examples
    --------
    >>> green = np.zeros((1, 64, 64, 3), np.uint8)
    >>> green[..., 1] = 200
    >>> to_rgb(pack(green, np.array([[64, 64]])))[0, 0, 0].tolist()
    [0, 200, 0]
    """
    centres = (np.arange(SIDE) + 0.5) * COLOUR_SIDE / SIDE - 0.5
    spread = np.maximum(0, 1 - np.abs(np.clip(centres, 0, COLOUR_SIDE - 1)[:, None] - np.arange(COLOUR_SIDE)))
    colour = spread @ (records["colour"] - NO_COLOUR) @ spread.T  # linear between the centres of the cells
    planes = np.concatenate([records["grey"][:, None], colour], axis=1)
    return np.clip(np.rint(np.moveaxis(planes, 1, -1) @ np.linalg.inv(FROM_RGB).T), 0, 255).astype(np.uint8)


def seal(records: np.ndarray, sha256: np.ndarray) -> np.ndarray:
    """Return records with the checksums that belong to images with these digests, shape (n, 32)."""
    sealed = records.copy()
    sealed["crc32"] = _checksums(records, sha256)
    return sealed


def matching(records: np.ndarray, sha256: np.ndarray) -> np.ndarray:
    """Return which records are those that were written for images with these digests, shape (n,), bool."""
    good = records["crc32"] != 0
    good[good] = records["crc32"][good] == _checksums(records[good], sha256[good])
    return good


def _checksums(records: np.ndarray, sha256: np.ndarray) -> np.ndarray:
    """CRC-32 of the record of each image; 0 is kept for records that were never written."""
    digests, sealed = bytes_of_rows(sha256), -THUMBNAIL["crc32"].itemsize
    pairs = zip(bytes_of_rows(records), digests, strict=True)
    return np.array([zlib.crc32(record[:sealed], zlib.crc32(digest)) or 1 for record, digest in pairs], np.uint32)
