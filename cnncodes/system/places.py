"""Tells places where no file can be, by their names and by what is there."""

from __future__ import annotations

import os
from pathlib import Path

from cnncodes.errors import CnnCodesError, CodesFileError

__all__ = ["make_folder", "refuse_device", "refuse_folder_name"]


def make_folder(path: str | Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises
    ------
    CnnCodesError
        It cannot be made, or a file is there.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CnnCodesError(
            f"{os.fspath(path)}: no folder can be made there ({error.strerror}); choose another"
        ) from error


def refuse_folder_name(path: str | os.PathLike[str]) -> None:
    """Raise if the name of an output ends as that of a folder, which a `Path` would forget.

    Raises
    ------
    CnnCodesError
        The path ends with a slash.
    """
    text = os.fspath(path)
    if text.endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise CnnCodesError(f"{text}: cannot be written (it is the name of a folder); name a file in it")


def refuse_device(path: str | os.PathLike[str]) -> None:
    """Raise if a codes file, which is written row by row, would be a device, a pipe or a socket.

    Raises
    ------
    CodesFileError
        The path is one.
    """
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        raise CodesFileError(f"{target}: is a device, a pipe or a socket, in which codes cannot be kept; name a file")
