"""The folder of a worker on its node: it outlives a worker that dies, and the next one on the node takes it away."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cnncodes.extraction.journal import digests_in, journal_of
from cnncodes.system.locks import lock_new, remove_abandoned

__all__ = ["CODES", "worker_folder"]

PREFIX = "cnncodes-job-"
CODES = "codes"  # name of the codes file for the journal; there is none
LOCK = "lock"  # held as long as the worker lives


@contextlib.contextmanager
def worker_folder(job: str) -> Iterator[tuple[Path, set[bytes]]]:
    """Make a folder, and remove it at the end; take away those whose workers have died.

    Parameters
    ----------
    job : str
        Names the folder: a worker that takes the place of another has its folder, and so its journal.

    Returns
    -------
    context manager
        Gives the folder, and the digests of images that were being decoded in others when their workers died.
    """
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}{job}"
    if os.path.lexists(folder) and not _is_ours(folder):  # as somebody else may have put a link there
        folder = Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    lock = folder / LOCK
    with contextlib.ExitStack() as held:
        while True:
            folder.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another worker has just taken it away
                handle = held.enter_context(lock.open("a"))
                if lock_new(lock, handle.fileno()):
                    break
        try:
            yield folder, _take_away_others(folder)
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()
                folder.rmdir()


def _take_away_others(own: Path) -> set[bytes]:
    """Remove the folders of workers that have died; return the digests in their journals."""
    digests = set[bytes]()
    for folder in own.parent.glob(f"{PREFIX}*"):
        if folder == own or not _is_ours(folder):
            continue
        with contextlib.suppress(OSError):
            remove_abandoned(folder / LOCK)
            if not (folder / LOCK).exists():
                journal = journal_of(folder / CODES)
                digests |= digests_in(journal)
                journal.unlink(missing_ok=True)
                folder.rmdir()
    return digests


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder, and no link, that belongs to the user who runs this."""
    with contextlib.suppress(OSError):
        status = folder.lstat()
        return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid())
    return False
