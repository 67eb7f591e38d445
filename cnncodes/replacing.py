"""One writer at a time for a file, and how a new file takes the place of an old one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cnncodes.errors import CodesFileError

__all__ = ["replacing", "sync_folder", "writer_lock"]


@contextlib.contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the one writer's place at `path`; it is given back when the process ends, however it ends.

    Raises
    ------
    CodesFileError
        Somebody else holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such lock on Windows, where an open file cannot be replaced anyway
        yield
        return
    try:
        handle = path.open("rb")
    except OSError as error:
        raise CodesFileError(f"{path}: cannot be opened ({error.strerror})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CodesFileError(_held(path)) from error
        if not os.path.samestat(os.fstat(handle.fileno()), path.stat()):  # another one has just been put in its place
            raise CodesFileError(_held(path))
        yield


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` for a new file, and put that in its place at the end, unless there is an error.

    Nobody may be writing to the old file; and where there was none, nobody else may have made one in the meantime.
    """
    stem = f".{path.name}."
    for left in path.parent.iterdir():  # by processes that were killed
        pid = left.name.removeprefix(stem).removesuffix(".partial")
        if left.name == f"{stem}{pid}.partial" and pid.isdecimal() and not _alive(int(pid)):
            left.unlink(missing_ok=True)
    partial = path.with_name(f"{stem}{os.getpid()}.partial")
    existed = path.exists()
    with writer_lock(path) if existed else contextlib.nullcontext():
        try:
            yield partial
            with _folder_lock(path.parent):
                if path.exists() and not existed:
                    raise CodesFileError(_held(path))
                os.replace(partial, path)
            sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let no other process of ours rename in this folder; wait for one that does."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):  # not every file system locks folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _held(path: Path) -> str:
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


def sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
