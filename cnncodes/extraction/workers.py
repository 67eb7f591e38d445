"""Runs images through a frozen network in worker threads, a bounded number at a time, and replaces those that hang."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnncodes.extraction.journal import Journal, too_slow
from cnncodes.extraction.read_ahead import ReadAhead
from cnncodes.extraction.worker_thread import Batch, Piece, Result, Shared, WorkerThread
from cnncodes.images.decoding import MAX_PIXELS
from cnncodes.images.loading import ImageSet
from cnncodes.images.network import waits_until
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.system.process import core_count, inference_settings
from cnncodes.system.progress import Progress

__all__ = ["IMAGE_TIMEOUT", "Pool", "run_batches"]

IMAGE_TIMEOUT = 60.0  # seconds; the largest image that is accepted takes a few
WATCH_SECONDS = 0.5  # between two looks at the workers
CLOSING_SECONDS = 1.0  # that workers get to end their batches when no more batches are needed
UNREAD = "it was not read within {:g} seconds; give it more by image_timeout of extract"


def run_batches(
    images: ImageSet,
    rows: np.ndarray,
    network: FrozenNetwork,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    codes: Path | None = None,
    image_timeout: float = IMAGE_TIMEOUT,
    max_pixels: int = MAX_PIXELS,
    thumbnails: bool = False,
) -> Iterator[Batch]:
    """Yield the codes of `rows`, batch by batch, as they are done.

    Each worker decodes and runs a whole batch on one intra-op thread: no core waits for another, and the number of
    workers cannot change a bit of the codes. A worker whose decoder hangs is left behind, its image counts as failed,
    and another worker takes up the rest of its batch.

    Parameters
    ----------
    images : ImageSet
    rows : ndarray of int
        Rows of `images` to run.
    network : FrozenNetwork
    workers : int, optional
        Number of worker threads; one per core by default.
    progress : callable, optional
        Called with (done, total, failed).
    codes : path, optional
        The codes file. The journal of images that are being decoded lies beside it.
    image_timeout : float, default=60
        Seconds for one image to be read, and for it to be decoded.
    max_pixels : int, default=120,000,000
        A larger image file is refused before its pixels are decoded.
    thumbnails : bool, default=False
        Make a small picture of each image, too.
    """
    n_pieces = -(-len(rows) // network.batch_size)
    workers = max(1, min(workers or core_count(), n_pieces)) if n_pieces > 1 else 1
    n_done = n_failed = 0
    with inference_settings(), Journal(codes, workers) as journal:
        if n_pieces:
            network.warm_up(len(rows))
        pool = Pool(
            network, journal, workers, image_timeout=image_timeout, max_pixels=max_pixels, thumbnails=thumbnails
        )
        try:
            for batch in pool.run(images, rows):
                n_done += len(batch)
                n_failed += len(batch.failures)
                yield batch
                if progress is not None:
                    progress(n_done, len(rows), n_failed)
        finally:
            pool.close()


class Pool:
    """Worker threads, and a watch for those whose decoder hangs.

    Parameters
    ----------
    network : FrozenNetwork
        Is warm.
    journal : Journal
        Has been entered.
    workers : int
    image_timeout, max_pixels, thumbnails
        As for `run_batches`.
    """

    def __init__(
        self,
        network: FrozenNetwork,
        journal: Journal,
        workers: int,
        *,
        image_timeout: float = IMAGE_TIMEOUT,
        max_pixels: int = MAX_PIXELS,
        thumbnails: bool = False,
    ) -> None:
        self.shared = Shared(network, journal, image_timeout, max_pixels, thumbnails)
        self._watching, self._is_closed = threading.Lock(), False
        self.workers = [WorkerThread(self.shared, slot) for slot in range(workers)]

    def run(self, images: ImageSet, rows: np.ndarray, *, apart: bool = False) -> Iterator[Batch]:
        """Yield the codes of `rows` by and by; at most two pieces per worker are under way.

        Several threads may run images at a time: they share the workers, which go from one's images to the other's.

        Parameters
        ----------
        images : ImageSet
        rows : ndarray of int
        apart : bool, default=False
            Decode each image in a process of its own first, as if an earlier run had died of it.
        """
        results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        size = self.shared.network.batch_size
        parts = (rows[start : start + size] for start in range(0, len(rows), size))
        with ReadAhead(images) as ahead:
            yield from self._run((Piece(images, part, ahead, results, apart) for part in parts), results)

    def _run(self, pieces: Iterator[Piece], results: queue.SimpleQueue[Result]) -> Iterator[Batch]:
        under_way = 0
        while True:
            while under_way < 2 * len(self.workers) and (piece := next(pieces, None)) is not None:
                piece.ahead.ask(piece.rows.tolist())
                self.shared.tasks.put(piece)
                under_way += 1
            if not under_way:
                return
            try:
                result = results.get(timeout=WATCH_SECONDS)
            except queue.Empty:
                if self._is_closed:
                    raise RuntimeError("the workers have been ended") from None
                with self._watching:
                    self._replace_hung_workers()
                continue
            if isinstance(result, BaseException):
                raise result
            batch, rest = result
            yield batch  # and so it is kept before the rest is begun
            if rest is None:
                under_way -= 1
            else:
                self.shared.tasks.put(rest)

    def _replace_hung_workers(self) -> None:
        for slot, worker in enumerate(self.workers):
            piece, row, digest, start = worker.state
            if piece is None or row is None or worker.claim.is_waiting:
                continue
            if time.monotonic() - max(start, worker.claim.admitted, waits_until()) < self.shared.image_timeout:
                continue
            worker.left_behind = True
            worker.claim.close()
            piece.ahead.drop(row)
            reason = too_slow(self.shared.image_timeout) if digest.any() else UNREAD.format(self.shared.image_timeout)
            piece.failures[row] = (reason, digest)
            self.workers[slot] = WorkerThread(self.shared, slot)
            self.shared.tasks.put(piece)

    def close(self) -> None:
        """Let the workers end their batches, but do not wait for long: their results are not needed any more."""
        self._is_closed = True  # who still waits for results gets none
        for worker in self.workers:
            worker.left_behind = True
            self.shared.tasks.put(None)
        deadline = time.monotonic() + CLOSING_SECONDS
        for worker in self.workers:
            worker.join(max(0.0, deadline - time.monotonic()))
