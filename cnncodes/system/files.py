"""Locks that give a file one writer at a time, and safe replacement of an old file by a new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cnncodes.errors import CnnCodesError, CodesFileError
from cnncodes.system.interrupt import unfinished

try:
    import fcntl
except ImportError:  # Windows has no such locks, and does not replace a file that is open anyway
    fcntl = None  # type: ignore[assignment]

__all__ = ["head_of", "refuse_foreign", "replacing", "waiting_lock", "writer_lock", "writing_text"]

HEAD_BYTES = 1 << 16


@contextlib.contextmanager
def writer_lock(path: Path, *, error_type: type[CnnCodesError] = CodesFileError) -> Iterator[None]:
    """Hold the one writer's place at `path`; it is given back when the process ends, however it ends.

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
    if fcntl is None:
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
            raise error_type(_held(path)) from error
        if not os.path.samestat(os.fstat(handle.fileno()), path.stat()):  # another one has just been put in its place
            raise error_type(_held(path))
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


def refuse_foreign(
    path: str | os.PathLike[str],
    kind: str,
    is_ours: Callable[[Path], bool],
    *,
    overwrite: bool = False,
    inputs: Iterable[Any] = (),
) -> None:
    """Raise where an output would take the place of a file that its writer has not written, or of an input.

    Parameters
    ----------
    path : path
        Path of the output. A free name or an empty file is never refused, unless it is an input.
    kind : str
        Kind of file that the writer writes, as "a model file", for the message.
    is_ours : callable
        Function that tells whether the file at a path is of that kind.
    overwrite : bool, default=False
        Allow a file of another kind to be replaced; an input never is.
    inputs : iterable
        Paths that the command reads, with all files below a folder; other values are ignored.

    Raises
    ------
    CnnCodesError
        The output must not be written there.
    """
    target = Path(path)
    if not os.path.lexists(target):
        return
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "no regular file"
        raise CnnCodesError(f"{target}: cannot be written (it is {what}); choose another name")
    paths = [Path(one) for one in inputs if isinstance(one, (str, os.PathLike)) and os.path.exists(one)]
    if any(one.is_file() and target.exists() and one.samefile(target) for one in paths):
        raise CnnCodesError(f"{target}: is what the command reads, so it stays as it is; choose another name")
    if not target.exists() or not target.stat().st_size:
        return
    try:
        ours = is_ours(target)
    except OSError as error:
        raise CnnCodesError(f"{target}: cannot be read ({error.strerror}); choose another name") from error
    if ours:
        return
    if any(one.is_dir() and target.resolve().is_relative_to(one.resolve()) for one in paths):
        raise CnnCodesError(f"{target}: is there among the images, so it stays as it is; choose another name")
    if not overwrite:
        raise CnnCodesError(
            f"{target}: is there and not {kind} that cnncodes wrote, so it stays as it is; choose another name, or "
            "overwrite it with --force"
        )


def head_of(path: Path) -> str:
    """Return the beginning of a text file, by which its writer knows it."""
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES).decode("utf-8", "replace")


@contextlib.contextmanager
def writing_text(path: Path) -> Iterator[IO[str]]:
    """Give a text file that appears under its name only when it is whole.

    Raises
    ------
    CnnCodesError
        The file cannot be written.
    """
    partial = path
    try:
        with (
            replacing(path, error_type=CnnCodesError) as partial,
            partial.open("w", encoding="utf-8", newline="") as stream,
        ):
            yield stream
            stream.flush()
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (path, path.parent, partial):
            raise  # it is about another file
        raise CnnCodesError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def replacing(path: Path, *, error_type: type[CnnCodesError] = CodesFileError) -> Iterator[Path]:
    """Give a path beside `path` for a new file, and put that in its place at the end, unless there is an error.

    Parameters
    ----------
    path : Path
        Nobody may be writing to a file that is there; where none is, nobody else may make one in the meantime.
    error_type : type, default=CodesFileError
        Class of the error in both cases.

    Raises
    ------
    CnnCodesError
        Another process writes to the file.
    OSError
        The system refuses.
    """
    stem = f".{path.name}."
    for left in path.parent.iterdir():  # by processes that were killed
        pid = left.name.removeprefix(stem).removesuffix(".partial")
        if left.name == f"{stem}{pid}.partial" and pid.isdecimal() and not _alive(int(pid)):
            left.unlink(missing_ok=True)
    partial = path.with_name(f"{stem}{os.getpid()}.partial")
    existed = path.exists()
    with writer_lock(path, error_type=error_type) if existed else contextlib.nullcontext():
        unfinished.add(partial)
        try:
            yield partial
            with partial.open("rb") as stream:  # or, after a power cut, the name might stand for half a file
                os.fsync(stream.fileno())
            with _folder_lock(path.parent):
                if path.exists() and not existed:
                    raise error_type(_held(path))
                os.replace(partial, path)
            _sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)
            unfinished.discard(partial)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
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


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
