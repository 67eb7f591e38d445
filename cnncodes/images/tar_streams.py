"""Files in compressed tar archives, which can only be read from the beginning on: many threads share one pass.

Whoever asks for an image lets the pass run up to it. What it passes is kept, because other threads ask for it a little
later: each works on some images in a row. At most `KEPT_BYTES` are kept; whoever asks for an image that was dropped, or
asks again from the beginning, starts another pass.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict

from cnncodes.errors import DecodeError
from cnncodes.images.archive_file import CHANGED, Archive
from cnncodes.images.files import image_suffixes, reason_of
from cnncodes.images.network import listing_errors
from cnncodes.images.tar_headers import REGULAR, TarReader
from cnncodes.images.tar_members import CUT_OFF, TarMember

__all__ = ["StreamMember"]

KEPT_BYTES = 128 << 20  # of images that were passed, in all archives together
MAX_PASSES = 8  # through one archive at a time
MAX_ARCHIVES = 8  # that are open at a time


class StreamMember(TarMember):
    """A file in a compressed tar archive; its place is counted in what the archive holds when it is decompressed."""

    __slots__ = ()

    is_distant = False  # several that read ahead of each other would gain nothing

    def reach(self) -> None:
        """Let a pass run up to the file, and keep it."""
        _runner(self.archive).content(self)

    def read_bytes(self) -> bytes:
        """Return the file."""
        return _runner(self.archive).content(self)


class _Kept:
    """Files by archive and place. Those that were asked for are the first to be dropped."""

    def __init__(self) -> None:
        self._lock, self._files, self._n_bytes = threading.Lock(), OrderedDict[tuple[int, int], bytes](), 0

    def get(self, key: tuple[int, int]) -> bytes | None:
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key, last=False)
            return self._files.get(key)

    def put(self, key: tuple[int, int], data: bytes) -> None:
        with self._lock:
            self._n_bytes += len(data) - len(self._files.get(key, b""))
            self._files[key] = data
            while self._n_bytes > KEPT_BYTES and len(self._files) > 1:
                self._n_bytes -= len(self._files.popitem(last=False)[1])

    def drop(self, runner: int) -> None:
        with self._lock:
            for key in [key for key in self._files if key[0] == runner]:
                self._n_bytes -= len(self._files.pop(key))


class _Pass:
    """One way through an archive, from its beginning on."""

    def __init__(self, archive: Archive) -> None:
        self.stream = archive.open()
        self.reader = TarReader(self.stream)
        self.headers = iter(self.reader)
        self.place = 0  # no file before it can be read any more


class _Runner:
    """Runs through an archive, for all threads of this process."""

    def __init__(self, archive: Archive) -> None:
        self._archive, self._lock, self._passes = archive, threading.Lock(), list[_Pass]()
        self._number, self._suffixes = next(_numbers), tuple(image_suffixes())
        self._end: tuple[int, str] | None = None  # from where on nothing can be read, and why

    def content(self, member: StreamMember) -> bytes:
        key = (self._number, member.offset)
        if (data := _kept.get(key)) is not None:
            return data
        with self._lock:  # one pass serves all, so nothing is gained by two threads that decompress
            if (data := _kept.get(key)) is None:
                data = self._run_to(member)
                _kept.put(key, data)
        return data

    def _run_to(self, member: StreamMember) -> bytes:
        if self._end is not None and member.offset >= self._end[0]:
            raise DecodeError(self._end[1])
        run, data = self._pass_to(member.offset), None
        try:
            with listing_errors(self._archive.path):  # of a remote one; the run ends, as when it cannot be listed
                data = self._find(member, run)
        finally:
            if data is None:
                self._passes.remove(run)
                run.stream.close()
        if data is None:
            self._end = member.offset, CUT_OFF if run.reader.damage else CHANGED
            raise DecodeError(self._end[1])
        return data

    def _find(self, member: StreamMember, run: _Pass) -> bytes | None:
        """Let a pass run up to a file; return the file, or None if it is not there, or not whole."""
        for header in run.headers:
            run.place = header.offset + 1
            if header.offset == member.offset and header.crc == member.header:
                data = run.reader.content(header)
                return data if len(data) == header.size else None
            if header.offset >= member.offset:
                break
            if header.kind == REGULAR and header.name.lower().endswith(self._suffixes) and header.size <= KEPT_BYTES:
                _kept.put((self._number, header.offset), run.reader.content(header))
        return None

    def _pass_to(self, place: int) -> _Pass:
        """Return the pass that gets to a place soonest; a new one if all are beyond it."""
        before = [run for run in self._passes if run.place <= place]
        run = max(before, key=lambda run: run.place, default=None)
        if run is None:
            try:
                run = _Pass(self._archive)
            except OSError as error:
                raise DecodeError(f"the archive: {reason_of(error)}") from error
        else:
            self._passes.remove(run)
        self._passes.append(run)
        if len(self._passes) > MAX_PASSES:
            self._passes.pop(0).stream.close()
        return run

    def close(self) -> None:
        with self._lock:
            while self._passes:
                self._passes.pop().stream.close()
        _kept.drop(self._number)


_kept, _numbers = _Kept(), itertools.count()
_runners: OrderedDict[tuple[int, tuple[str, int, int]], _Runner] = OrderedDict()
_runners_lock = threading.Lock()


def _runner(archive: Archive) -> _Runner:
    """Return the runner of an archive in this process; a process that is forked has files of its own."""
    key = os.getpid(), archive.key
    with _runners_lock:
        if (runner := _runners.get(key)) is None:
            runner = _runners[key] = _Runner(archive)
        _runners.move_to_end(key)
        oldest = _runners.popitem(last=False)[1] if len(_runners) > MAX_ARCHIVES else None
    if oldest is not None:
        oldest.close()
    return runner
