"""Notes which images are being decoded, so that the next run is warned if this one dies."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np

from cnncodes.errors import DecodeError

__all__ = ["Journal", "digests_in", "journal_of", "too_slow"]

logger = logging.getLogger(__name__)

DIGEST_BYTES = 32
SIGKILL = 9  # which Windows does not have
# If memory runs out, Linux ends the process of the highest score: this one, and not the one that waits for it
DECODE = """
import contextlib, sys
with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
    score.write("1000")
from cnncodes.images.decoding import decode
decode(sys.stdin.buffer.read())
"""
KILLED = (
    "the system killed its decoder (signal 9), for lack of memory as it seems; give more, and retry_failed of extract"
)


class Journal:
    """A small file beside a codes file with the digests of the images that are being decoded. Use as a context manager.

    The file is removed at the end, also after an error, but not if the process dies. Then its images are suspects: any
    of them may kill its decoder. A suspect is first decoded in a process of its own.

    Parameters
    ----------
    codes : path or None
        The codes file; without one nothing is kept, and there are no suspects.
    workers : int
        Number of workers that decode at the same time.
    """

    def __init__(self, codes: Path | None, workers: int) -> None:
        self.path = journal_of(codes) if codes is not None else None
        self._workers = workers
        self._suspects: dict[bytes, int | None] = {}  # digest -> slot; None for what other machines died of
        self._tried: set[bytes] = set()  # those that were suspects, and did no harm
        self._reasons: dict[bytes, str] = {}  # digest -> why a suspect is refused
        self._slots: np.ndarray | None = None  # (n_slots, 32), mapped to the file, which outlives the process

    def __enter__(self) -> Journal:
        if self.path is None:
            return self
        try:
            suspects = sorted(digests_in(self.path))
            self._suspects = {digest: slot for slot, digest in enumerate(suspects, self._workers)}
            shape = (self._workers + len(suspects), DIGEST_BYTES)
            with self.path.open("wb") as file:
                file.truncate(shape[0] * shape[1])
                if hasattr(os, "posix_fallocate"):  # or a full disk would end the process by a signal
                    os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1])
            self._slots = np.memmap(self.path, np.uint8, "r+", shape=shape)
            for slot, digest in enumerate(suspects, self._workers):  # suspects until they are tried
                self.enter(slot, digest)
        except OSError as error:
            logger.info("%s cannot be kept (%s): an image that kills its decoder would not be known", self.path, error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots = None
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def enter(self, slot: int, digest: bytes) -> None:
        """Note that a worker begins to decode an image."""
        if self._slots is not None:
            self._slots[slot] = np.frombuffer(digest, np.uint8)

    def leave(self, slot: int) -> None:
        """Note that a worker is done with its image."""
        if self._slots is not None:
            self._slots[slot] = 0

    def suspects(self, digest: bytes) -> bool:
        """Whether an earlier run died while an image was being decoded."""
        return digest in self._suspects

    def all_suspects(self) -> frozenset[bytes]:
        """Return the digests of the images that were being decoded when an earlier run died."""
        return frozenset(self._suspects)

    def warn_of(self, digests: Iterable[bytes]) -> None:
        """Take images for suspects that other machines died of."""
        for digest in digests:
            if digest not in self._tried:
                self._suspects.setdefault(digest, None)

    def try_suspect(self, data: bytes, digest: bytes, seconds: float) -> None:
        """Decode an image in a process of its own if an earlier run died while it was being decoded.

        Raises
        ------
        DecodeError
            That process died as well, or took too long. The image stays a suspect.
        """
        if digest in self._reasons:
            raise DecodeError(self._reasons[digest])
        if digest in self._suspects:
            try:
                _try_apart(data, seconds)
            except DecodeError as error:
                self._reasons[digest] = str(error)
                raise
            self._tried.add(digest)
            if (slot := self._suspects.pop(digest, None)) is not None:
                self.leave(slot)


def journal_of(codes: Path) -> Path:
    """Return the place of the journal of a codes file."""
    return codes.with_name(f".{codes.name}.decoding")


def digests_in(journal: Path) -> set[bytes]:
    """Return the digests of the images that were being decoded when the last run died; none if there is no journal."""
    content = journal.read_bytes() if journal.exists() else b""
    digests = {content[i : i + DIGEST_BYTES] for i in range(0, len(content) - DIGEST_BYTES + 1, DIGEST_BYTES)}
    return {digest for digest in digests if any(digest)}


def _try_apart(data: bytes, seconds: float) -> None:
    """Decode in a process of its own; its death is an error, and what the decoder reports is not."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    try:
        died = subprocess.run(
            [sys.executable, "-P", "-c", DECODE],
            input=data,
            env=environment,
            timeout=seconds,
            capture_output=True,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise DecodeError(too_slow(seconds)) from error
    if died == -SIGKILL:
        raise DecodeError(KILLED)
    if died < 0 or died > 255:  # a signal; on Windows, an exception code
        raise DecodeError(f"its decoder crashes (signal {-died}): the file is damaged, or made to do harm")


def too_slow(seconds: float) -> str:
    """Return the reason that is recorded for an image whose decoder takes too long."""
    return f"it was not decoded within {seconds:g} seconds; give it more by image_timeout and retry_failed of extract"
