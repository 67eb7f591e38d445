"""The one way by which files are written as a whole, so that an old file is never lost for half a new one."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cnncodes.errors import CnnCodesError, first_line, parameter
from cnncodes.system.interrupt import unfinished
from cnncodes.system.locks import folder_lock, held, lock_new, remove_abandoned, writer_lock
from cnncodes.system.places import refuse_folder_name, refuse_url

__all__ = ["head_of", "refuse_foreign", "replacing", "writing_text"]

HEAD_BYTES = 1 << 16
MAX_NAME_BYTES = 180  # of a name that a hidden file is called after; file systems allow 255 with what is added
PRIVATE, NEW = 0o600, 0o666  # permissions of a file while it is being written, and of a new one, less the umask
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _TrialOverError(Exception):
    """Ends a trial whether a file can be written."""


def refuse_foreign(
    path: str | os.PathLike[str],
    kind: str,
    is_ours: Callable[[Path], bool],
    *,
    overwrite: bool = False,
    inputs: Iterable[Any] = (),
) -> None:
    """Raise where an output cannot be written, or would take the place of an input or of another program's file.

    Parameters
    ----------
    path : path
        Path of the output. A free name, an empty file, a pipe or a terminal is never refused, unless it is an input.
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
    refuse_url(path, kind, writing=True)
    refuse_folder_name(path)
    target = Path(path)
    with contextlib.suppress(_TrialOverError), replacing(target):
        raise _TrialOverError
    if not os.path.lexists(target):
        return
    paths = [Path(one) for one in inputs if isinstance(one, (str, os.PathLike)) and os.path.exists(one)]
    if any(one.is_file() and target.exists() and one.samefile(target) for one in paths):
        raise CnnCodesError(f"{target}: is what the command reads, so it stays as it is; choose another name")
    if not target.exists() or not target.stat().st_size or _is_stream(target):
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
            f"overwrite it with {parameter('overwrite', True)}"
        )


def head_of(path: Path) -> str:
    """Return the beginning of a text file, by which its writer knows it."""
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    return head.decode("utf-16" if head.startswith(codecs.BOM_UTF16_LE) else "utf-8", "replace")


@contextlib.contextmanager
def writing_text(path: Path) -> Iterator[IO[str]]:
    """Give a text file whose content gets to `path` only when it is whole, as `replacing` does.

    Raises
    ------
    CnnCodesError
        The file cannot be written.
    """
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        yield stream


@contextlib.contextmanager
def replacing(
    path: Path, *, error_type: type[CnnCodesError] = CnnCodesError, one_writer: bool = False
) -> Iterator[Path]:
    """Give the path of an empty file, whose content becomes that of `path` at the end, unless there is an error.

    Everything that is written as a whole is written here: to a file beside `path`, synced and renamed. After a kill, a
    full disk or a power cut, `path` has its old content or all of the new. Of two that write at a time, the last wins.

    What is at `path` stays what it was. Mode and owner are kept, and a symbolic link leads to the new content. A file
    that has hard links, or whose owner we must not set, is overwritten when the new content is whole; a kill in that
    moment leaves a part of it. A pipe, a terminal or our own standard output is sent the new content.

    Parameters
    ----------
    path : Path
        Place of the content; its folder must exist.
    error_type : type, default=CnnCodesError
        Class of the errors.
    one_writer : bool, default=False
        Refuse if another process writes to the file, or makes it in the meantime. The file is renamed in any case:
        other hard links keep the old content.

    Raises
    ------
    CnnCodesError
        The file cannot be written, or another process writes to it.
    """
    refuse_url(path, writing=True, error_type=error_type)
    to_stream = _is_stream(path)
    target = path if to_stream else Path(os.path.realpath(path))
    with _explained(path, error_type) as names, contextlib.ExitStack() as stack:
        old = target.stat() if target.exists() else None
        _require_place(path, target, to_stream and not one_writer, error_type)
        if one_writer and old is not None:
            stack.enter_context(writer_lock(target, error_type=error_type))
        folder = Path(tempfile.gettempdir()) if to_stream else target.parent
        partial, file, mode = stack.enter_context(_new_file(folder, target.name, names))
        yield partial
        if to_stream:
            _send(file, target)
            return
        in_place = old is not None and not _keeps_owner(file, old) and not one_writer
        os.chmod(partial, mode if old is None else stat.S_IMODE(old.st_mode))
        os.fsync(file.fileno())  # or, after a power cut, the name might stand for half a file
        with folder_lock(target.parent):
            if one_writer and old is None and target.exists():
                raise error_type(held(target))
            if in_place:
                _overwrite(file, target)
            else:
                if os.name == "nt":
                    file.close()  # Windows renames no open file
                os.replace(partial, target)
        _sync_folder(target.parent)


@contextlib.contextmanager
def _explained(path: Path, error_type: type[CnnCodesError]) -> Iterator[set[str]]:
    """Say in one line why `path` cannot be written; the names of other files that this is about are to be added."""
    names = {os.fspath(path), os.path.realpath(path)}
    try:
        yield names
    except OSError as error:
        if error.filename is not None and str(error.filename) not in names:
            raise  # it is about another file
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        remedy = "make room on the disk" if error.errno in FULL else "choose another place"
        raise error_type(f"{path}: cannot be written ({reason}); {remedy}") from error


def _require_place(path: Path, target: Path, may_be_stream: bool, error_type: type[CnnCodesError]) -> None:
    """Raise if a file cannot be at a place, or must not be changed."""
    if not target.parent.is_dir():
        raise error_type(f"{path}: cannot be written (there is no folder {target.parent}); make that first")
    if target.is_symlink() and not may_be_stream:
        raise error_type(f"{path}: cannot be written (its link leads in a circle); choose another name")
    if target.exists() and not target.is_file() and not may_be_stream:
        what = "a folder" if target.is_dir() else "a device, a pipe or a socket"
        raise error_type(f"{path}: cannot be written (it is {what}); choose another name")
    if target.is_file() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


@contextlib.contextmanager
def _new_file(folder: Path, name: str, names: set[str]) -> Iterator[tuple[Path, IO[bytes], int]]:
    """Give a new private file that is called after `name`, its handle, and the mode that a public one would have.

    It is locked as long as it is ours: one that nobody locks is left from a run that was killed, and removed.
    """
    stem = os.fsencode(name)[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    abandoned = re.compile(re.escape(f".{stem}.") + r"[0-9a-f]{16}\.partial")
    with contextlib.suppress(OSError):  # a folder may be writable and not readable
        for left in folder.iterdir():
            if abandoned.fullmatch(left.name):
                remove_abandoned(left)
    while True:
        partial = folder / f".{stem}.{secrets.token_hex(8)}.partial"
        names.add(os.fspath(partial))
        unfinished.add(partial)
        try:
            handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), NEW)
            with os.fdopen(handle, "r+b") as file:
                mode = stat.S_IMODE(os.fstat(handle).st_mode)
                if lock_new(partial, handle):
                    os.chmod(partial, PRIVATE)
                    yield partial, file, mode
                    return
        finally:
            partial.unlink(missing_ok=True)
            unfinished.discard(partial)


def _is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a terminal or our own standard output, which no file may replace."""
    try:
        there = path.stat()
    except OSError:
        return False
    if stat.S_ISFIFO(there.st_mode) or stat.S_ISCHR(there.st_mode):
        return True
    return _standard_stream(there) is not None


def _standard_stream(there: os.stat_result) -> int | None:
    """Return the number of the standard stream that goes to a file, if one does."""
    for number in (1, 2):
        with contextlib.suppress(OSError):  # it may be closed
            if os.path.samestat(there, os.fstat(number)):
                return number
    return None


def _send(file: IO[bytes], path: Path) -> None:
    """Write the content of a file to a pipe, a terminal or a standard stream."""
    number = _standard_stream(path.stat())
    if number is not None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    file.seek(0)
    with path.open("wb") if number is None else os.fdopen(os.dup(number), "wb") as out:
        shutil.copyfileobj(file, out)


def _keeps_owner(file: IO[bytes], old: os.stat_result) -> bool:
    """Give a new file the owner of the old one; return whether it can then take its place."""
    if os.name != "posix":
        return True
    new = os.fstat(file.fileno())
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(file.fileno(), old.st_uid, old.st_gid)
        except OSError:
            return False
    return old.st_nlink == 1


def _overwrite(file: IO[bytes], target: Path) -> None:
    """Write the content of a file over another one, for which the space is claimed first."""
    size = os.fstat(file.fileno()).st_size
    with target.open("r+b") as out:
        old_size = os.fstat(out.fileno()).st_size
        try:
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(out.fileno(), 0, size)
        except OSError:
            out.truncate(old_size)
            raise
        file.seek(0)
        shutil.copyfileobj(file, out)
        out.truncate()
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
