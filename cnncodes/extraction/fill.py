"""Computes what rows of a codes file lack, codes or small pictures, and writes it as it is done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, DecodeError
from cnncodes.extraction.engine import Engine, Work
from cnncodes.extraction.sources import read_source
from cnncodes.extraction.thumbnails import thumbnail_of
from cnncodes.images.decoding import MAX_PIXELS, decode
from cnncodes.images.image_set import ImageSet
from cnncodes.images.network import askers
from cnncodes.images.stored_file import reading_threads
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.system.claims import Claim
from cnncodes.system.process import core_count, inference_settings
from cnncodes.system.progress import Progress

__all__ = ["fill", "fill_thumbnails"]

PLAIN_WORK = Work()
SYNC_SECONDS = 30.0
THUMBNAILS_AT_A_TIME = 256  # that are written together


def fill(
    file: CodesWriter,
    images: ImageSet,
    rows: np.ndarray,
    engine: Engine,
    keys: Sequence[str] = (),
    work: Work = PLAIN_WORK,
    *,
    progress: Progress | None = None,
) -> dict[int, list[str]]:
    """Compute rows of a codes file and write them, synced about every 30 seconds.

    Parameters
    ----------
    file : CodesWriter
    images : ImageSet
        An image for each row of the file.
    rows : ndarray of int
        The rows to compute.
    engine : Engine
        Computes them.
    keys : sequence of str, optional
        Layers, and keys of maps, that any of the rows lacks; by default all.
    work : Work, optional
        How images are worked on; the file says whether small pictures are made.
    progress : callable, optional
        Called with (done, total, failed) after each batch.

    Returns
    -------
    dict of int to list of str
        Remarks by row: what is odd about an image that could be read.

    Raises
    ------
    CodesFileError
        The file cannot be written; the rows that were written before are kept.
    CodesRangeError
        A code is too large for the float16 of the file.
    """
    synced = time.monotonic()
    remarks: dict[int, list[str]] = {}
    work = replace(work, thumbnails=file.has_thumbnails)
    batches = engine.batches(images, rows, keys, work, codes=file.path, progress=progress)
    for batch in batches:
        with _writing(file):
            if batch.thumbnails is not None:  # first, so that whatever ends the program, codes have their picture
                file.write_thumbnails(batch.rows, batch.thumbnails, batch.sha256)
            file.write(batch.rows, batch.codes, batch.sha256)
            for row, (reason, digest) in batch.failures.items():
                file.fail(row, reason, digest)
            if time.monotonic() - synced > SYNC_SECONDS:
                file.sync()
                synced = time.monotonic()
        remarks |= batch.remarks
    with _writing(file):
        file.sync()
    return remarks


def fill_thumbnails(
    file: CodesWriter,
    images: ImageSet,
    rows: np.ndarray,
    preprocessing: Preprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> list[str]:
    """Decode images whose codes are there already, and write the small pictures that the file lacks of them.

    Parameters
    ----------
    file : CodesWriter
        Keeps small pictures.
    images : ImageSet
        An image for each row of the file.
    rows : ndarray of int
        Rows without a small picture, ascending.
    preprocessing : Preprocessing
        Says at what size a JPEG file is decoded.
    max_pixels, progress
        As for `extract`.

    Returns
    -------
    list of str
        Notes. The codes of an image that cannot be read again stay as they are.

    Raises
    ------
    CodesFileError
        The file cannot be written.
    """
    digests, without = file.sha256, 0
    ignored, enough = preprocessing.ignore_profiles, preprocessing.enough

    def shrink(row: int) -> np.ndarray | None:
        with Claim() as claim:
            try:
                source, digest = read_source(images, row, ignore_profiles=ignored, claim=claim)
                if isinstance(source, bytes):
                    source = decode(source, max_pixels=max_pixels, enough=enough, ignore_profiles=ignored, claim=claim)
            except DecodeError:
                return None
            return thumbnail_of(source) if np.array_equal(digest, digests[row]) else None

    with inference_settings(), askers(reading_threads(images.sources) or core_count()) as pool:
        for start in range(0, len(rows), THUMBNAILS_AT_A_TIME):
            part = rows[start : start + THUMBNAILS_AT_A_TIME]
            made = list(pool.map(shrink, part.tolist()))
            here = np.array([one is not None for one in made])
            without += int((~here).sum())
            with _writing(file):
                if here.any():
                    records = np.concatenate([one for one in made if one is not None])
                    file.write_thumbnails(part[here], records, digests[part[here]])
            if progress is not None:
                progress(start + len(part), len(rows), without)
    with _writing(file):
        file.sync()
    return [f"{without} of the images could not be read again, and have no small picture"] * bool(without)


@contextlib.contextmanager
def _writing(file: CodesWriter) -> Iterator[None]:
    """Say in one line why rows cannot be written, and how to go on."""
    try:
        yield
    except OSError as error:
        raise CodesFileError(
            f"{file.path}: cannot be written ({error.strerror or error}); what was written before is kept. Make room "
            "on the disk, then run the same command again"
        ) from error
