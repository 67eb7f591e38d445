"""Tells places where no file can be, by their names and by what is there."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from cnncodes.errors import CnnCodesError, CodesFileError
from cnncodes.urls import is_url, public_url, scheme_of

__all__ = ["make_folder", "refuse_device", "refuse_folder_name", "refuse_url"]

# `Path` keeps one slash of a URL; what else has a colon may be the name of a folder
PATH_OF_URL = re.compile(r"^(s3a?|gc?s|https?|hf|az|abfs|ftp|sftp|ssh|hdfs|file|memory):/(?!/)", re.IGNORECASE)
DOWNLOADS = {
    "s3": "aws s3 cp {url} {name}",
    "gs": "gcloud storage cp {url} {name}",
    "http": "curl -L -o {name} {url}",
    "https": "curl -L -o {name} {url}",
}
UPLOADS = {"s3": "aws s3 cp {name} {url}", "gs": "gcloud storage cp {name} {url}"}
BY_FSSPEC = 'python -c "import sys, fsspec; fs, path = fsspec.url_to_fs(sys.argv[1]); fs.{method}" {{url}} {{name}}'
DOWNLOAD, UPLOAD = (BY_FSSPEC.format(method=method) for method in ("get(path, sys.argv[2])", "put(sys.argv[2], path)"))


def make_folder(path: str | Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises
    ------
    CnnCodesError
        It cannot be made, or a file is there.
    """
    refuse_url(path, writing=True)
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


def refuse_url(
    path: str | os.PathLike[str],
    kind: str = "an output",
    *,
    writing: bool = False,
    error_type: type[CnnCodesError] = CnnCodesError,
) -> None:
    """Raise if a file of ours would be a URL, of which a `Path` would make folders here.

    Parameters
    ----------
    path : path
        Path that the user has given, also as a `Path`.
    kind : str, default="an output"
        Kind of file, as "a codes file", for the message.
    writing : bool, default=False
        Whether the file is to be written, and not read.
    error_type : type, default=CnnCodesError
        Type of the error.

    Raises
    ------
    CnnCodesError
        The path is a URL.
    """
    url = PATH_OF_URL.sub(r"\1://", os.fspath(path))
    if not is_url(url):
        return
    shown = public_url(url)
    hidden = "" if shown == url else " (what is secret in it is not shown)"
    name = shown.partition("?")[0].rstrip("/").rpartition("/")[2]
    commands, other = (UPLOADS, UPLOAD) if writing else (DOWNLOADS, DOWNLOAD)
    template = other if "::" in url else commands.get(scheme_of(url), other)
    command = template.format(url=shlex.quote(shown), name=shlex.quote(name))
    advice = "write it there, and copy it then" if writing else "copy it there, and name the copy"
    raise error_type(
        f"{shown}: is a URL, and the place of {kind} is a disk of this machine; {advice}{hidden}: `{command}`"
    )


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
