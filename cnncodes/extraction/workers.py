"""Decodes images and runs them through a frozen network in worker threads, a bounded number at a time."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnncodes.codes.thumbnails import blank
from cnncodes.errors import DecodeError
from cnncodes.extraction.journal import Journal, too_slow
from cnncodes.extraction.thumbnails import thumbnail_of
from cnncodes.images.decoding import MAX_PIXELS, colour_profile, decode, to_pixels
from cnncodes.images.loading import ImageSet
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.system.process import core_count, inference_settings, register_worker, use_one_thread
from cnncodes.system.progress import Progress
from cnncodes.vocabulary import MAPS

__all__ = ["IMAGE_TIMEOUT", "Batch", "read_source", "run_batches"]

IMAGE_TIMEOUT = 60.0  # seconds; the largest image that is accepted takes a few
WATCH_SECONDS = 0.5  # between two looks at the workers
CLOSING_SECONDS = 1.0  # that workers get to end their batches when no more batches are needed
NOT_FINITE = "its codes are not finite numbers; extract in the precision fp32, or with other weights"
TOO_LARGE = "float16 does not hold its map of {}; extract without this map, to another file"
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
        Seconds for one image to be decoded.
    max_pixels : int, default=120,000,000
        A larger image file is refused before its pixels are decoded.
    thumbnails : bool, default=False
        Make a small picture of each image, too.
    """
    pieces = [_Piece(rows[i : i + network.batch_size]) for i in range(0, len(rows), network.batch_size)]
    workers = max(1, min(workers or core_count(), len(pieces))) if len(pieces) > 1 else 1
    n_done = n_failed = 0
    with inference_settings(), Journal(codes, workers) as journal:
        if pieces:
            network.warm_up(len(rows))
        pool = _Pool(images, network, journal, workers, image_timeout, max_pixels, thumbnails)
        try:
            for batch in pool.run(iter(pieces)):
                n_done += len(batch)
                n_failed += len(batch.failures)
                yield batch
                if progress is not None:
                    progress(n_done, len(rows), n_failed)
        finally:
            pool.close()


@dataclass
class _Piece:
    """Rows that go through the network together."""

    rows: np.ndarray
    failures: dict[int, tuple[str, np.ndarray]] = field(default_factory=dict)  # those of images whose decoder hung


class _Pool:
    """Worker threads, and a watch for those whose decoder hangs."""

    def __init__(
        self,
        images: ImageSet,
        network: FrozenNetwork,
        journal: Journal,
        workers: int,
        image_timeout: float,
        max_pixels: int,
        thumbnails: bool,
    ) -> None:
        self.images, self.network, self.journal = images, network, journal
        self.image_timeout, self.max_pixels, self.thumbnails = image_timeout, max_pixels, thumbnails
        self.tasks: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        self.workers = [_Worker(self, slot) for slot in range(workers)]

    def run(self, pieces: Iterator[_Piece]) -> Iterator[Batch]:
        """Yield the batch of each piece; at most two pieces per worker are under way."""
        under_way = 0
        while True:
            while under_way < 2 * len(self.workers) and (piece := next(pieces, None)) is not None:
                self.tasks.put(piece)
                under_way += 1
            if not under_way:
                return
            try:
                result = self.results.get(timeout=WATCH_SECONDS)
            except queue.Empty:
                self._replace_hung_workers()
                continue
            if isinstance(result, BaseException):
                raise result
            under_way -= 1
            yield result

    def _replace_hung_workers(self) -> None:
        for slot, worker in enumerate(self.workers):
            piece, row, digest, start = worker.state
            if piece is None or row is None or time.monotonic() - start < self.image_timeout:
                continue
            worker.left_behind = True
            piece.failures[row] = (too_slow(self.image_timeout), digest)
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

    def __init__(self, pool: _Pool, slot: int) -> None:
        super().__init__(name=f"cnncodes-{slot}", daemon=True)
        self.pool, self.slot = pool, slot
        self.left_behind = False
        # What is being decoded, and since when (monotonic seconds); one tuple, so that it changes as a whole
        self.state: tuple[_Piece | None, int | None, np.ndarray, float] = (None, None, NO_DIGEST, 0.0)
        register_worker(self)
        self.start()

    def run(self) -> None:
        use_one_thread()
        while not self.left_behind and (piece := self.pool.tasks.get()) is not None:
            result: Batch | BaseException
            try:
                result = self._run_piece(piece)
            except BaseException as error:  # `_Pool.run` raises it again
                result = error
            if not self.left_behind:
                self.pool.results.put(result)

    def _run_piece(self, piece: _Piece) -> Batch:
        rows, pixels, digests = [], [], []
        failures, remarks, thumbnails = dict(piece.failures), dict[int, list[str]](), [blank(0)]
        for row in piece.rows.tolist():
            if row in failures or self.left_behind:
                continue
            digest, oddities = NO_DIGEST, list[str]()
            self.state = (piece, row, digest, time.monotonic())
            try:
                preprocessing = self.pool.network.backbone.preprocessing
                source, digest = read_source(
                    self.pool.images, row, oddities, ignore_profiles=preprocessing.ignore_profiles
                )
                self.state = (piece, row, digest, time.monotonic())
                image = self._decode(source, digest.tobytes(), oddities)
                pixels.append(preprocessing.squares(torch.from_numpy(image)))
                if self.pool.thumbnails:
                    thumbnails.append(thumbnail_of(image))
            except DecodeError as error:
                failures[row] = (str(error), digest)
                continue
            finally:
                self.state = (None, None, NO_DIGEST, 0.0)
            digests.append(digest)
            rows.append(row)
            if oddities:
                remarks[row] = oddities
        codes = self.pool.network(torch.stack(pixels), self.slot) if pixels and not self.left_behind else {}
        sha256 = np.stack(digests) if digests else np.empty((0, 32), np.uint8)
        finite = np.ones(len(rows), bool)
        for key, values in codes.items():  # codes come first, so that a map is named only if it alone is to blame
            is_finite = np.isfinite(values).reshape(len(rows), -1).all(axis=1)
            reason = TOO_LARGE.format(key.removeprefix(MAPS)) if key.startswith(MAPS) else NOT_FINITE
            for i in np.flatnonzero(finite & ~is_finite).tolist():
                failures[rows[i]] = (reason, digests[i])
            finite &= is_finite
        return Batch(
            np.array(rows, np.int64)[finite],
            {name: values[finite] for name, values in codes.items()},
            sha256[finite],
            failures,
            remarks,
            np.concatenate(thumbnails)[finite] if self.pool.thumbnails else None,
        )

    def _decode(self, source: bytes | np.ndarray, digest: bytes, remarks: list[str]) -> np.ndarray:
        if not isinstance(source, bytes):
            return source
        journal = self.pool.journal
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
            )
        finally:
            if not self.left_behind:  # if it is, another worker has the slot
                journal.leave(self.slot)


def read_source(
    images: ImageSet, row: int, remarks: list[str] | None = None, *, ignore_profiles: bool = False
) -> tuple[bytes | np.ndarray, np.ndarray]:
    """Return the undecoded bytes of a file, or the pixels of an array or a PIL image; and the SHA-256 of either.

    The SHA-256 of a PIL image is that of its pixels, with its colour profile unless that is sRGB.
    """
    source: Any = images.sources[row]
    if images.ids[row] in images.failures:
        raise DecodeError(images.failures[images.ids[row]])
    if isinstance(source, Path):
        source = images.read_bytes(row)
        content = source
    else:
        image, profile = source, colour_profile(source)
        source = to_pixels(image, ignore_profiles=ignore_profiles, remarks=remarks)  # a palette changes what is seen
        plain = to_pixels(image, ignore_profiles=True) if profile and not ignore_profiles else source
        content = str(plain.shape).encode() + plain.tobytes() + profile
    return source, np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
