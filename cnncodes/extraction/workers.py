"""Decodes images and runs them through a frozen network in worker threads, a bounded number at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from cnncodes.codes.thumbnails import blank
from cnncodes.errors import DecodeError
from cnncodes.extraction.journal import Journal, too_slow
from cnncodes.extraction.read_ahead import ReadAhead
from cnncodes.extraction.sources import read_source
from cnncodes.extraction.thumbnails import thumbnail_of
from cnncodes.images.decoding import MAX_PIXELS, decode
from cnncodes.images.loading import ImageSet
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.system.claims import Claim
from cnncodes.system.process import core_count, inference_settings, register_worker, use_one_thread
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import MAPS

__all__ = ["IMAGE_TIMEOUT", "Batch", "Pool", "run_batches"]

IMAGE_TIMEOUT = 60.0  # seconds; the largest image that is accepted takes a few
WATCH_SECONDS = 0.5  # between two looks at the workers
CLOSING_SECONDS = 1.0  # that workers get to end their batches when no more batches are needed
NOT_FINITE = "its codes are not finite numbers; extract in the precision fp32, or with other weights"
TOO_LARGE = "float16 does not hold its map of {}; extract without this map, to another file"
UNREAD = "it was not read within {:g} seconds; give it more by image_timeout of extract"
NO_DIGEST = np.zeros(32, np.uint8)


@dataclass
class Batch:
    """Codes of a few images: what passes from the workers to the writer."""

    rows: np.ndarray  # (k,), those of images that could be read
    codes: dict[str, np.ndarray]  # (k, n_features), or (k, n_views, n_features); maps (k[, n_views], C, H, W) by key
    sha256: np.ndarray  # (k, 32)
    failures: dict[int, tuple[str, np.ndarray]]  # row -> reason, digest
    remarks: dict[int, list[str]]  # row -> what is odd about an image that could be read
    thumbnails: np.ndarray | None = None  # (k,), where small pictures are kept

    def __len__(self) -> int:
        return len(self.rows) + len(self.failures)


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


_Result: TypeAlias = "tuple[Batch, _Piece | None] | BaseException"


@dataclass
class _Piece:
    """Rows that go through the network together."""

    images: ImageSet
    rows: np.ndarray
    ahead: ReadAhead  # reads the images of the run
    results: queue.SimpleQueue[_Result]  # of the run that they belong to
    apart: bool = False
    failures: dict[int, tuple[str, np.ndarray]] = field(default_factory=dict)  # those of images whose decoder hung


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
        self.network, self.journal = network, journal
        self.image_timeout, self.max_pixels, self.thumbnails = image_timeout, max_pixels, thumbnails
        self.tasks: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._watching = threading.Lock()
        self.workers = [_Worker(self, slot) for slot in range(workers)]

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
        results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        size = self.network.batch_size
        parts = (rows[start : start + size] for start in range(0, len(rows), size))
        with ReadAhead(images) as ahead:
            yield from self._run((_Piece(images, part, ahead, results, apart) for part in parts), results)

    def _run(self, pieces: Iterator[_Piece], results: queue.SimpleQueue[_Result]) -> Iterator[Batch]:
        under_way = 0
        while True:
            while under_way < 2 * len(self.workers) and (piece := next(pieces, None)) is not None:
                piece.ahead.ask(piece.rows.tolist())
                self.tasks.put(piece)
                under_way += 1
            if not under_way:
                return
            try:
                result = results.get(timeout=WATCH_SECONDS)
            except queue.Empty:
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
                self.tasks.put(rest)

    def _replace_hung_workers(self) -> None:
        for slot, worker in enumerate(self.workers):
            piece, row, digest, start = worker.state
            if piece is None or row is None or worker.claim.is_waiting:
                continue
            if time.monotonic() - max(start, worker.claim.admitted) < self.image_timeout:
                continue
            worker.left_behind = True
            worker.claim.close()
            piece.ahead.drop(row)
            reason = too_slow(self.image_timeout) if digest.any() else UNREAD.format(self.image_timeout)
            piece.failures[row] = (reason, digest)
            self.workers[slot] = _Worker(self, slot)
            self.tasks.put(piece)

    def close(self) -> None:
        """Let the workers end their batches, but do not wait for long: their results are not needed any more."""
        for worker in self.workers:
            worker.left_behind = True
            self.tasks.put(None)
        deadline = time.monotonic() + CLOSING_SECONDS
        for worker in self.workers:
            worker.join(max(0.0, deadline - time.monotonic()))


class _Worker(threading.Thread):
    """Decodes the images of a piece, and runs them through the network."""

    def __init__(self, pool: Pool, slot: int) -> None:
        super().__init__(name=f"cnncodes-{slot}", daemon=True)
        self.pool, self.slot = pool, slot
        self.left_behind = False
        self.claim = Claim()
        # What is being decoded, and since when (monotonic seconds); one tuple, so that it changes as a whole
        self.state: tuple[_Piece | None, int | None, np.ndarray, float] = (None, None, NO_DIGEST, 0.0)
        register_worker(self)
        self.start()

    def run(self) -> None:
        use_one_thread()
        while not self.left_behind and (piece := self.pool.tasks.get()) is not None:
            result: _Result
            try:
                result = self._run_piece(piece)
            except BaseException as error:  # `Pool.run` raises it again
                result = error
            if not self.left_behind:
                piece.results.put(result)

    def _run_piece(self, piece: _Piece) -> tuple[Batch, _Piece | None]:
        """Return the codes of a piece and nothing; or those of a part, and the rest.

        After an image that takes much of the memory that is left, or that an earlier run died of, codes are kept before
        another image is decoded: if the process dies, the next run goes on from here.
        """
        rows, pixels, digests = [], [], []
        failures, remarks, thumbnails = dict(piece.failures), dict[int, list[str]](), [blank(0)]
        rest: list[int] = []
        for at, row in enumerate(piece.rows.tolist(), start=1):
            if row in failures or self.left_behind:
                continue
            oddities = list[str]()
            try:
                with Claim() as self.claim:
                    square, thumbnail = self._prepare(piece, row, oddities)
            except DecodeError as error:
                failures[row] = (str(error), self.state[2])
            else:
                rows.append(row)
                pixels.append(square)
                thumbnails.append(thumbnail)
                digests.append(self.state[2])
                if oddities:
                    remarks[row] = oddities
            finally:
                self.state = (None, None, NO_DIGEST, 0.0)
            if self.claim.is_tight:
                rest = [row for row in piece.rows[at:].tolist() if row not in failures]
                break
        codes = self.pool.network(torch.stack(pixels), self.slot) if pixels and not self.left_behind else {}
        sha256 = np.stack(digests) if digests else np.empty((0, 32), np.uint8)
        finite = np.ones(len(rows), bool)
        for key, values in codes.items():  # codes come first, so that a map is named only if it alone is to blame
            is_finite = np.isfinite(values).reshape(len(rows), -1).all(axis=1)
            reason = TOO_LARGE.format(key.removeprefix(MAPS)) if key.startswith(MAPS) else NOT_FINITE
            for i in np.flatnonzero(finite & ~is_finite).tolist():
                failures[rows[i]] = (reason, digests[i])
            finite &= is_finite
        batch = Batch(
            np.array(rows, np.int64)[finite],
            {name: values[finite] for name, values in codes.items()},
            sha256[finite],
            failures,
            remarks,
            np.concatenate(thumbnails)[finite] if self.pool.thumbnails else None,
        )
        return batch, replace(piece, rows=np.array(rest), failures={}) if rest else None

    def _prepare(self, piece: _Piece, row: int, remarks: list[str]) -> tuple[torch.Tensor, np.ndarray]:
        """Return what enters the network of an image, and its small picture; `state` tells its digest."""
        self.state = (piece, row, NO_DIGEST, time.monotonic())
        preprocessing = self.pool.network.backbone.preprocessing
        source, digest = read_source(
            piece.images,
            row,
            remarks,
            ignore_profiles=preprocessing.ignore_profiles,
            claim=self.claim,
            ahead=piece.ahead,
        )
        self.state = (piece, row, digest, time.monotonic())
        if piece.apart:
            self.pool.journal.warn_of([digest.tobytes()])
        image = self._decode(source, digest.tobytes(), remarks)
        square = preprocessing.squares(torch.from_numpy(image))
        return square, thumbnail_of(image) if self.pool.thumbnails else blank(1)

    def _decode(self, source: bytes | np.ndarray, digest: bytes, remarks: list[str]) -> np.ndarray:
        if not isinstance(source, bytes):
            return source
        journal = self.pool.journal
        if journal.suspects(digest):
            self.claim.add(0, alone=True)
            journal.try_suspect(source, digest, self.pool.image_timeout)
        journal.enter(self.slot, digest)
        try:
            preprocessing = self.pool.network.backbone.preprocessing
            return decode(
                source,
                max_pixels=self.pool.max_pixels,
                enough=preprocessing.enough,
                ignore_profiles=preprocessing.ignore_profiles,
                remarks=remarks,
                claim=self.claim,
            )
        finally:
            if not self.left_behind:  # if it is, another worker has the slot
                journal.leave(self.slot)
