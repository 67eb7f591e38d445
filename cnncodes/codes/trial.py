"""Tries in a process of its own whether HDF5 comes back from a file that no digest vouches for."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from cnncodes.errors import CodesFileError

__all__ = ["try_apart"]

CPU_SECONDS = 4  # of that process; what it does takes 0.2 on a common machine
WALL_SECONDS = 120.0  # for a disk that does not answer
REMEMBERED = 64  # files
CAME_BACK = 42  # exit code; that of a Python that cannot even start is another one
TRIAL = f"""
import contextlib, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2])))
except (ImportError, ValueError, OSError):
    pass
from cnncodes.codes.layout import look
with contextlib.suppress(Exception):
    look(sys.argv[1])
sys.exit({CAME_BACK})
"""


def try_apart(path: Path) -> None:
    """Read the structure of a file in a process of its own, which may spin or crash.

    A file is tried once while it stays the same.

    Raises
    ------
    CodesFileError
        HDF5 spins or crashes, or no process can be started. An error that HDF5 reports is none here.
    """
    stat = path.stat()
    _try(path, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))


@functools.lru_cache(REMEMBERED)
def _try(path: Path, _: tuple[int, ...]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    command = [sys.executable, "-P", "-c", TRIAL, os.path.abspath(path), str(CPU_SECONDS)]
    try:
        ended = subprocess.run(
            command,
            env=environment,
            timeout=WALL_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        ended = -1
    except OSError as error:
        raise CodesFileError(f"{path}: cannot be tried in a process of its own ({error.strerror})") from error
    if 0 <= ended <= 255 and ended != CAME_BACK:
        raise CodesFileError(f"{path}: cannot be tried in a process of its own (Python ends with {ended})")
    if ended != CAME_BACK:  # a signal; on Windows, an exception code
        raise CodesFileError(f"{path}: damaged: HDF5 spins or crashes when it reads it; extract again to another file")
