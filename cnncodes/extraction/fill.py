"""Computes rows of a codes file and writes them as they are done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np

from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError
from cnncodes.extraction.workers import IMAGE_TIMEOUT, run_batches
from cnncodes.images.decoding import MAX_PIXELS
from cnncodes.images.image_set import ImageSet
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.system.progress import Progress

__all__ = ["fill"]

SYNC_SECONDS = 30.0


def fill(
    file: CodesWriter,
    images: ImageSet,
    rows: np.ndarray,
    network: FrozenNetwork,
    *,
    workers: int | None = None,
    image_timeout: float = IMAGE_TIMEOUT,
    max_pixels: int = MAX_PIXELS,
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
    network : FrozenNetwork
    workers, image_timeout, max_pixels, progress
        As for `extract`.

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
    batches = run_batches(
        images,
        rows,
        network,
        workers=workers,
        progress=progress,
        codes=file.path,
        image_timeout=image_timeout,
        max_pixels=max_pixels,
    )
    for batch in batches:
        with _writing(file):
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
