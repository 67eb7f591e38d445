"""A thread that decodes the images of a piece, runs them through a network, and notes what is odd about them."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import torch

from cnncodes.codes.thumbnails import blank
from cnncodes.errors import DecodeError
from cnncodes.extraction.journal import Journal
from cnncodes.extraction.read_ahead import ReadAhead
from cnncodes.extraction.sources import read_source
from cnncodes.extraction.thumbnails import thumbnail_of
from cnncodes.images.decoding import decode
from cnncodes.images.image_set import ImageSet
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.system.claims import Claim
from cnncodes.system.process import register_worker, use_one_thread
from cnncodes.vocabulary import MAPS

__all__ = ["NO_DIGEST", "Batch", "Piece", "Result", "Shared", "WorkerThread"]

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


Result: TypeAlias = "tuple[Batch, Piece | None] | BaseException"


@dataclass
class Piece:
    """Rows that go through the network together."""

    images: ImageSet
    rows: np.ndarray
    ahead: ReadAhead  # reads the images of the run
    results: queue.SimpleQueue[Result]  # of the run that they belong to
    apart: bool = False
    failures: dict[int, tuple[str, np.ndarray]] = field(default_factory=dict)  # those of images whose decoder hung


@dataclass
class Shared:
    """What the workers of a pool have in common."""

    network: FrozenNetwork
    journal: Journal
    image_timeout: float
    max_pixels: int
    thumbnails: bool
    tasks: queue.SimpleQueue[Piece | None] = field(default_factory=queue.SimpleQueue)  # None ends a worker


class WorkerThread(threading.Thread):
    """Decodes the images of a piece, and runs them through the network."""

    def __init__(self, shared: Shared, slot: int) -> None:
        super().__init__(name=f"cnncodes-{slot}", daemon=True)
        self.shared, self.slot = shared, slot
        self.left_behind = False
        self.claim = Claim()
        # What is being decoded, and since when (monotonic seconds); one tuple, so that it changes as a whole
        self.state: tuple[Piece | None, int | None, np.ndarray, float] = (None, None, NO_DIGEST, 0.0)
        register_worker(self)
        self.start()

    def run(self) -> None:
        use_one_thread()
        while not self.left_behind and (piece := self.shared.tasks.get()) is not None:
            result: Result
            try:
                result = self._run_piece(piece)
            except BaseException as error:  # `Pool.run` raises it again
                result = error
            if not self.left_behind:
                piece.results.put(result)

    def _run_piece(self, piece: Piece) -> tuple[Batch, Piece | None]:
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
        codes = self.shared.network(torch.stack(pixels), self.slot) if pixels and not self.left_behind else {}
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
            np.concatenate(thumbnails)[finite] if self.shared.thumbnails else None,
        )
        return batch, replace(piece, rows=np.array(rest), failures={}) if rest else None

    def _prepare(self, piece: Piece, row: int, remarks: list[str]) -> tuple[torch.Tensor, np.ndarray]:
        """Return what enters the network of an image, and its small picture; `state` tells its digest."""
        self.state = (piece, row, NO_DIGEST, time.monotonic())
        preprocessing = self.shared.network.backbone.preprocessing
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
            self.shared.journal.warn_of([digest.tobytes()])
        image = self._decode(source, digest.tobytes(), remarks)
        square = preprocessing.squares(torch.from_numpy(image))
        return square, thumbnail_of(image) if self.shared.thumbnails else blank(1)

    def _decode(self, source: bytes | np.ndarray, digest: bytes, remarks: list[str]) -> np.ndarray:
        if not isinstance(source, bytes):
            return source
        journal = self.shared.journal
        if journal.suspects(digest):
            self.claim.add(0, alone=True)
            journal.try_suspect(source, digest, self.shared.image_timeout)
        journal.enter(self.slot, digest)
        try:
            preprocessing = self.shared.network.backbone.preprocessing
            return decode(
                source,
                max_pixels=self.shared.max_pixels,
                enough=preprocessing.enough,
                ignore_profiles=preprocessing.ignore_profiles,
                remarks=remarks,
                claim=self.claim,
            )
        finally:
            if not self.left_behind:  # if it is, another worker has the slot
                journal.leave(self.slot)
