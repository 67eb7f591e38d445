"""The block before the structure of a codes file, by which damage in it is found before HDF5 reads it.

Damage in the headers, trees and heaps of HDF5 can make the library spin for ever, deaf to every signal but SIGKILL, or
crash. `lay_out` has all of them put before the first dataset, and they never change afterwards. So a block before them,
which HDF5 leaves to its users, holds a digest of them: it is compared with plain reads of the file.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from cnncodes.codes.columns import Columns
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import CodesFileError

__all__ = [
    "MAGIC",
    "digest_in",
    "extents",
    "file_options",
    "refuse_damage",
    "seal_structure",
    "text_of",
    "write_block",
]

BLOCK_BYTES = 512  # the smallest user block of HDF5: the magic, the digest, the length of what it covers, zeros
MAGIC = b"cnncodes"
DIGEST_AT = len(MAGIC)
COVERED_FROM = DIGEST_AT + hashlib.sha256().digest_size
LENGTH_BYTES = 8
MAX_STRUCTURE_BYTES = 1 << 26  # a length beyond it is damage; a layer takes about 1 kB
BASE_BYTES, LAYER_BYTES, NAME_FACTOR = 1 << 14, 1 << 11, 4  # room for the structure, about twice what it takes


def file_options(provenance: Provenance) -> dict[str, int]:
    """Return how `h5py.File` leaves room for the block and for a structure in one piece before the datasets."""
    names = sum(LAYER_BYTES + NAME_FACTOR * len(name.encode()) for name in [*provenance.layers, *provenance.maps])
    return {"userblock_size": BLOCK_BYTES, "meta_block_size": BASE_BYTES + names}


def extents(h5: h5py.File) -> dict[str, tuple[int, int]]:
    """Return first byte and size of the data of each dataset that has any, by name."""
    places: dict[str, tuple[int, int]] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.nbytes:
            places[name] = (item.id.get_offset(), item.nbytes)

    h5.visititems(add)
    return places


def seal_structure(path: Path, places: Mapping[str, tuple[int, int]], content: Mapping[str, np.ndarray]) -> None:
    """Write the block, and the content of the datasets that are written once, into a file that was just laid out.

    Raises
    ------
    CodesFileError
        There is structure behind the first dataset, where the digest would not cover it.
    """
    spans = sorted(places.values())
    with path.open("r+b") as file:
        for (offset, size), (following, _) in itertools.pairwise([*spans, (path.stat().st_size, 0)]):
            file.seek(offset + size)
            if any(file.read(following - offset - size)):  # HDF5 leaves zeros where it rounds
                raise CodesFileError(f"{path}: cannot be laid out: HDF5 put structure among the datasets")
        for name in content.keys() & places.keys():
            file.seek(places[name][0])
            file.write(content[name].reshape(-1).view(np.uint8).data)
        write_block(file, spans[0][0])


def write_block(file: IO[bytes], end: int) -> None:
    """Write the block of a file whose structure ends at byte `end`."""
    block = bytearray(BLOCK_BYTES)
    block[:DIGEST_AT] = MAGIC
    block[COVERED_FROM : COVERED_FROM + LENGTH_BYTES] = end.to_bytes(LENGTH_BYTES, "little")
    file.seek(BLOCK_BYTES)
    covered = block[COVERED_FROM:] + file.read(end - BLOCK_BYTES)
    block[DIGEST_AT:COVERED_FROM] = hashlib.sha256(covered).digest()
    file.seek(0)
    file.write(block)


def refuse_damage(columns: Columns) -> None:
    """Raise ValueError if block and structure are not as they were laid out, without asking HDF5."""
    block = columns.read(0, BLOCK_BYTES)
    if block[:DIGEST_AT] != MAGIC:
        raise ValueError("it begins as neither HDF5 nor a codes file does")
    end = int.from_bytes(block[COVERED_FROM : COVERED_FROM + LENGTH_BYTES], "little")
    good = BLOCK_BYTES < end <= MAX_STRUCTURE_BYTES
    if (
        not good
        or hashlib.sha256(columns.read(COVERED_FROM, end - COVERED_FROM)).digest() != block[DIGEST_AT:COVERED_FROM]
    ):
        raise ValueError("its structure has changed since it was laid out")


def text_of(value: Any) -> Any:
    """Return an attribute as text if it is text of fixed length."""
    return value.decode("utf-8") if isinstance(value, bytes) else value


def digest_in(h5: h5py.File, name: str) -> str:
    """Return the digest that the structure holds of the data of a dataset.

    Raises
    ------
    ValueError, KeyError
        It is no text, or there is none.
    """
    if not isinstance(sha256 := text_of(h5[name].attrs["sha256"]), str):
        raise ValueError(f"the digest of {name} is no text")
    return sha256
