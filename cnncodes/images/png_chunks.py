"""Takes out of PNG files the text and the colour profiles that Pillow refuses for their size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

__all__ = ["without_large_chunks"]

START_BYTES = 8
FRAME_BYTES = 12  # of each chunk: its length, its name, its checksum
PILLOW_LIMIT = 1 << 20  # bytes of a text or a profile
MAX_PROFILE = 64 << 20
SMALL_CHUNK = PILLOW_LIMIT // 1100  # deflate makes nothing smaller than a 1,032nd


def without_large_chunks(data: bytes) -> tuple[bytes, bytes | None]:
    """Return a PNG file without compressed texts and profiles that are too large for Pillow, and that profile, if any.

    Examples
    --------
    >>> without_large_chunks(b"")
    (b'', None)
    """
    kept, profile, start = [], None, 0
    for at, end in _chunks(data):
        kind = data[at + 4 : at + 8]
        if kind not in (b"iCCP", b"zTXt", b"iTXt") or end - at < SMALL_CHUNK:
            continue
        content = _inflated(kind, data[at + 8 : end - 4])
        if len(content) > PILLOW_LIMIT:
            kept.append(data[start:at])
            start = end
            if kind == b"iCCP":
                profile = content
    return (data, None) if not start else (b"".join([*kept, data[start:]]), profile)


def _chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each chunk begins and ends."""
    at = START_BYTES
    while at + FRAME_BYTES <= len(data):
        end = at + FRAME_BYTES + int.from_bytes(data[at : at + 4], "big")
        yield at, end
        at = end


def _inflated(kind: bytes, content: bytes) -> bytes:
    """Return the compressed part of a chunk, at most the largest profile; nothing if there is none or it is damaged."""
    rest = content.partition(b"\0")[2][1:]  # after the name and the method
    if kind == b"iTXt":
        if content.partition(b"\0")[2][:1] != b"\1":  # not compressed
            return b""
        rest = rest[1:].split(b"\0", 2)[-1]  # after the language and the translated name
    try:
        return zlib.decompressobj().decompress(rest, MAX_PROFILE)
    except zlib.error:
        return b""
