"""Locks that give a file one writer at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cnncodes.errors import CnnCodesError, CodesFileError
from cnncodes.system.interrupt import unfinished

try:
    import fcntl
except ImportError:  # Windows has no such locks, and does not replace a file that is open anyway
    fcntl = None  # type: ignore[assignment]

__all__ = ["folder_lock", "held", "lock_new", "remove_abandoned", "waiting_lock", "writer_lock"]


@contextlib.contextmanager
def writer_lock(path: Path, *, error_type: type[CnnCodesError] = CodesFileError) -> Iterator[None]:
    """Hold the one writer's place at `path`; it is given back when the process ends, however it ends.

    A new file that `replacing` gave is ours already.

    Parameters
    ----------
    path : Path
        A file that exists.
    error_type : type, default=CodesFileError
        Class of the errors.

    Raises
    ------
    CnnCodesError
        Another process holds the place, or the file cannot be opened.
    """
    if fcntl is None or path in unfinished:
        yield
        return
    try:
        handle = path.open("rb")
    except OSError as error:
        raise error_type(f"{path}: cannot be opened ({error.strerror})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise error_type(held(path)) from error
        if not os.path.samestat(os.fstat(handle.fileno()), path.stat()):  # another one has just been put in its place
            raise error_type(held(path))
        yield


@contextlib.contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Wait for other processes that hold this lock of `path`, and hold it; an empty lock file beside it stays.

    Raises
    ------
    CodesFileError
        The lock file cannot be written.
    """
    if fcntl is None:
        yield
        return
    try:
        handle = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        raise CodesFileError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def lock_new(path: Path, handle: int) -> bool:
    """Lock a file that was just made, until `handle` is closed; return False if it has been removed meanwhile."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX)
    return path.exists()


def remove_abandoned(path: Path) -> None:
    """Remove a file that `lock_new` locked, if the process that did so has ended."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), path.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Let no other process of ours rename in this folder; wait for one that does."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):  # not every file system locks folders
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def held(path: Path) -> str:
    """Return an error message: somebody else writes to `path`."""
    return f"{path}: {_lock_holder(path)} is writing to it; wait until it is done, or stop it"


def _lock_holder(path: Path) -> str:
    """Name the process that locks `path`, where the system tells."""
    with contextlib.suppress(OSError, ValueError):
        inode = path.stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return f"process {fields[4]}"
    return "another process"
