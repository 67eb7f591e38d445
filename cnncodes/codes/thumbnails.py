"""The small picture that a codes file keeps of each image, on numpy alone."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["COLOUR_SIDE", "SIDE", "THUMBNAIL", "blank", "matching", "pack", "seal", "to_ycc"]

SIDE = 64  # pixels: grey
COLOUR_SIDE = 16  # pixels: blue and red difference, of which the eye sees less
THUMBNAIL = np.dtype(  # 4,616 bytes; with full colours it would be 12,296
    [
        ("grey", "u1", (SIDE, SIDE)),
        ("colour", "u1", (2, COLOUR_SIDE, COLOUR_SIDE)),
        ("size", "<u2", (2,)),
        ("crc32", "<u4"),
    ]
)
# Rec. 601, as in JPEG: rows are grey, blue and red difference
FROM_RGB = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
MIDDLE = np.float32(128)  # of the differences, where there is no colour


def blank(n: int) -> np.ndarray:
    """Return `n` records that hold no picture."""
    return np.zeros(n, THUMBNAIL)


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
        Not sealed: `seal` adds the checksum of the row that they are written to.

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
    records["colour"] = np.clip(np.rint(cells @ FROM_RGB[1:].T + MIDDLE), 0, 255).transpose(0, 3, 1, 2)
    records["size"] = sizes
    return records


def to_ycc(colour: np.ndarray) -> np.ndarray:
    """Return grey, blue and red difference of colours, shape (..., 3), as `pack` defines them."""
    return colour @ FROM_RGB.T


def seal(records: np.ndarray, rows: np.ndarray, sha256: np.ndarray) -> np.ndarray:
    """Return records with the checksums that belong to rows whose images have these digests."""
    sealed = records.copy()
    for i, row in enumerate(rows.tolist()):
        sealed["crc32"][i] = _checksum(records[i], row, sha256[i])
    return sealed


def matching(records: np.ndarray, rows: np.ndarray, sha256: np.ndarray) -> np.ndarray:
    """Return which records are those that were written for these rows and images, shape (n,), bool."""
    written = np.flatnonzero(records["crc32"])
    good = np.zeros(len(records), bool)
    for i in written.tolist():
        good[i] = records["crc32"][i] == _checksum(records[i], int(rows[i]), sha256[i])
    return good


def _checksum(record: np.void, row: int, sha256: np.ndarray) -> np.uint32:
    """CRC-32 of the record of a row; 0 is kept for rows without a thumbnail."""
    seed = row.to_bytes(8, "little") + sha256.tobytes()
    return np.uint32(zlib.crc32(record.tobytes()[: -THUMBNAIL["crc32"].itemsize], zlib.crc32(seed)) or 1)
