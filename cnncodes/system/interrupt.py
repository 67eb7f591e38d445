"""Ends a program within two seconds of Ctrl-C or SIGTERM, even where a library does not come back for longer.

Python raises KeyboardInterrupt only between two of its own instructions, and one of them may find all eigenvectors of a
large matrix.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "INTERRUPTED",
    "end_when_interrupted",
    "ignore_interruptions",
    "patience",
    "sleep",
    "unfinished",
    "was_interrupted",
]

INTERRUPTED = 130  # exit code: 128 and the number of SIGINT, as shells have it
GRACE_SECONDS = 1.0  # until Python is back from a library
POLL_SECONDS = 0.1
SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"  # a progress bar hides it

unfinished: set[Path] = set()  # files that go when the process ends at once
_grace = [GRACE_SECONDS]  # the last one counts
_interrupted = threading.Event()


def was_interrupted() -> bool:
    """Whether one of the signals has come: what is raised since then may only be a library that ends badly."""
    return _interrupted.is_set()


def sleep(seconds: float) -> bool:
    """Sleep until the time is over or one of the signals comes; return whether one has come."""
    return _interrupted.wait(seconds)


def end_when_interrupted() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, and end the process if that takes longer than 1 s.

    For a program that has its process to itself; called by its main thread. A signal that is ignored stays ignored.
    On Windows nothing is done.
    """
    if os.name != "posix":
        return
    raised = threading.Event()

    def interrupt(number: int, frame: Any) -> None:
        _interrupted.set()  # first: a signal inside `sleep` may stop here for ever, and the watch ends the program
        raised.set()
        raise KeyboardInterrupt

    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, numbers, raised), name="interrupt", daemon=True).start()
    for number in numbers:
        signal.signal(number, interrupt)


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Give a library longer to come back after the first Ctrl-C, for what is then saved; the second one ends it.

    Parameters
    ----------
    seconds : float
    """
    _grace.append(seconds)
    try:
        yield
    finally:
        _grace.pop()


def ignore_interruptions() -> None:
    """Let Ctrl-C and SIGTERM do nothing any more, for a program whose work is done."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _watch(reading: int, numbers: list[signal.Signals], raised: threading.Event) -> None:
    while os.read(reading, 1)[0] not in numbers or _came_back(reading, raised):  # it reads of other signals, too
        raised.clear()
    for path in list(unfinished):
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        os.write(2, SHOW_CURSOR * os.isatty(2) + b"interrupted\n")
    os._exit(INTERRUPTED)


def _came_back(reading: int, raised: threading.Event) -> bool:
    """Wait until Python has raised; give up when its time is over, or when another signal comes after a second."""
    started = time.monotonic()
    while not raised.wait(POLL_SECONDS):
        waited = time.monotonic() - started
        if waited >= _grace[-1] or (waited >= GRACE_SECONDS and select.select([reading], [], [], 0)[0]):
            return False
    return True
