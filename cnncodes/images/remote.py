"""Image files in an object store or on the web, by their URLs, through fsspec."""

from __future__ import annotations

import contextlib
import hashlib
import io
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images.files import MAX_BYTES
from cnncodes.images.hub import HUB_SCHEME, read_from_hub
from cnncodes.images.network import CONNECTIONS, SILENCE_SECONDS, ask, asking_threads, file_system
from cnncodes.images.stored_file import StoredFile
from cnncodes.system.optional import require
from cnncodes.urls import WEB_SCHEMES, base_of, public_url, scheme_of, suffix_of, without_query

__all__ = ["NO_PARTS", "RemoteFile", "fetch_stamps", "open_remote", "read_part", "stamp_in"]

MAX_UNTOLD_BYTES = 256 << 20  # of a file whose size no server has told
BLOCK_BYTES = 1 << 20  # read at a time of a file that is read in parts
NO_PARTS = "its server gives no parts of files; fetch the archive, and give its path"
# What tells that a file has changed, the best first; file systems spell them in several ways
STAMPS = (
    "md5hash",  # of Google, whose etag changes with each upload of the same bytes
    "etag",
    "generation",
    "blob_id",
    "xet_hash",  # of the Hub's buckets, which have no blob_id
    "content-md5",
    "mtime",
    "lastmodified",
    "last-modified",
    "modified",
    "created",
)
ARCHIVE_SCHEMES = frozenset({"zip", "tar"})
# fsspec knows them, but they lead to files of this machine, or by way of another file system
REFUSED_SCHEMES = frozenset(
    {"async_wrapper", "asynclocal", "asyncwrapper", "blockcache", "cached", "data", "dir", "dvc", "filecache"}
    | {"generic", "git", "libarchive", "reference", "simplecache"}
)


class RemoteFile(StoredFile):
    """A file that a URL names.

    Parameters
    ----------
    base : str
        Beginning of the URL; one object for many files.
    name : str
        The rest of the URL.
    size, changed : int, default=-1
        What a listing said; −1 if nobody has asked yet.
    """

    __slots__ = ("_changed", "_size", "base", "name")

    is_distant = True

    def __init__(self, base: str, name: str, size: int = -1, changed: int = -1) -> None:
        self.base, self.name, self._size, self._changed = base, name, size, changed

    @classmethod
    def of(cls, url: str) -> RemoteFile:
        """Return the file of a URL.

        Raises
        ------
        ImagesError
            It is a chain of URLs, or leads to this machine.
        """
        scheme, shown = scheme_of(url), public_url(url)
        if "::" in url:
            raise ImagesError(f"{shown}: a chain of URLs is not read; give the URL of the file itself")
        if scheme in ARCHIVE_SCHEMES:
            raise ImagesError(f"{shown}: names no archive; write {scheme}://folder::a.{scheme}, or a.{scheme} for all")
        if scheme in REFUSED_SCHEMES:
            raise ImagesError(f"{shown}: {scheme}:// URLs are not read; give the path or the URL of the file itself")
        base = base_of(url)
        return cls(base, url.removeprefix(base))

    @property
    def url(self) -> str:
        """The whole URL, with whatever is secret in it."""
        return self.base + self.name

    @property
    def parent(self) -> str:
        """URL of the folder that the file lies in, without what is secret."""
        return str(self.beside("."))

    def beside(self, name: str) -> RemoteFile:
        """Return the file of another name in the same folder; parts ``..`` lead above it, never out of the base."""
        path = self.name
        if scheme_of(self.base) in WEB_SCHEMES:  # where these begin what is no part of the path
            path, name = without_query(self.url).removeprefix(self.base), name.replace("?", "%3F").replace("#", "%23")
        path = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), name))
        return RemoteFile(self.base, path.lstrip("/"))

    @property
    def suffix(self) -> str:
        """Suffix of the name, in small letters."""
        return suffix_of(self.url)

    @property
    def size(self) -> int:
        """Number of bytes; −1 if it is not known."""
        return self._size

    @property
    def changed(self) -> int:
        """A number made of the etag, or of the time of the last change; −1 if it is not known."""
        return self._changed

    def __str__(self) -> str:
        return public_url(self.url)

    def __repr__(self) -> str:
        return f"RemoteFile({str(self)!r})"

    def read_bytes(self) -> bytes:
        """Return the whole file.

        Raises
        ------
        DecodeError
            It is not there, may not be read, or was not answered for.
        ImagesError
            The network, or the service, is gone; or there are no credentials.
        """
        if self._size > MAX_BYTES:
            raise DecodeError(f"{self._size:,} bytes, more than the limit of {MAX_BYTES:,}")
        return ask(self.url, self._read)

    def _read(self) -> bytes:
        files = file_system(self.base)
        path = files._strip_protocol(self.url)
        if scheme_of(self.base) in WEB_SCHEMES:
            limit = MAX_BYTES if self._size > 0 else MAX_UNTOLD_BYTES  # some servers say 0 before they send anything
            data = _from_web(files, path, limit, f"more than {limit:,} bytes came", {})
        elif scheme_of(self.base) == HUB_SCHEME:
            data = read_from_hub(files, path, SILENCE_SECONDS)
        else:
            data = files.cat_file(path)
        if len(data) < self._size and files.info(path).get("size") != len(data):  # or it has changed since
            raise EOFError(f"{len(data):,} bytes came of {self._size:,}")
        return data

    def fetch_stamp(self) -> None:
        """Ask for size and change, if they are not known; what cannot be asked stays unknown."""
        if self._changed >= 0:
            return

        def info() -> Mapping[str, Any]:
            files = file_system(self.base)
            return files.info(files._strip_protocol(self.url))

        with contextlib.suppress(DecodeError):  # reading it will say why
            self._size, self._changed = stamp_in(ask(self.url, info))


def _from_web(files: Any, url: str, limit: int, excess: str, headers: Mapping[str, str]) -> bytes:
    """Return what a web server sends, which may never end, as of a camera: more than `limit` bytes are an error."""
    sync = require("fsspec.asyn", "reading URLs").sync

    async def read() -> bytes:
        session = await files.set_session()
        options = {**files.kwargs, "headers": {**files.kwargs.get("headers", {}), **headers}}
        data = bytearray()
        async with session.get(files.encode_url(url), **options) as response:
            files._raise_not_found_for_status(response, url)
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > limit:
                    raise DecodeError(excess)
        return bytes(data)

    answer: bytes = sync(files.loop, read)
    return answer


def stamp_in(info: Mapping[str, Any]) -> tuple[int, int]:
    """Return size and change of a file, from what a listing says about it; −1 for what it does not say."""
    said = {key.lower(): value for key, value in info.items()}
    mark = next((said[key] for key in STAMPS if said.get(key)), None)
    # Google unpacks what is kept compressed, so that other bytes come than it counts
    size = None if said.get("contentencoding") == "gzip" else said.get("size")
    changed = -1 if mark is None else int.from_bytes(hashlib.sha256(str(mark).encode()).digest()[:8], "big") >> 1
    return (-1 if size is None else int(size)), changed


def fetch_stamps(sources: Iterable[Any]) -> None:
    """Ask for size and change of each remote file among `sources` whose listing did not say, many at a time."""
    files = [source for source in sources if isinstance(source, RemoteFile) and source.changed < 0]
    if not files:
        return
    systems = [file_system(base) for base in {file.base for file in files if scheme_of(file.base) not in WEB_SCHEMES}]
    for system in systems:
        system.invalidate_cache()  # what it has kept of an earlier run may have changed
    with asking_threads(CONNECTIONS) as pool:
        list(pool.map(_list, {file.beside(".").url for file in files if scheme_of(file.base) == HUB_SCHEME}))
        list(pool.map(RemoteFile.fetch_stamp, files))
    for system in systems:
        getattr(system, "dircache", {}).clear()  # or it would keep the lists for as long as the process lives


def _list(folder: str) -> None:
    """List a folder of the Hub, whose library would do so for each thread that asks for a file in it."""
    files = file_system(folder)
    with contextlib.suppress(DecodeError):  # reading the files will say why
        ask(folder, lambda: files.ls(files._strip_protocol(folder), detail=False))


def read_part(url: str, start: int, end: int) -> bytes:
    """Return the bytes of a remote file between two positions that are in it.

    Raises
    ------
    DecodeError
        The part cannot be read; or the server gives no parts, but whole files alone.
    ImagesError
        As for `RemoteFile.read_bytes`.
    """
    files, n_bytes = file_system(url), end - start
    part = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}

    def read() -> bytes:
        path = files._strip_protocol(url)
        if scheme_of(url) in WEB_SCHEMES:
            data = _from_web(files, path, n_bytes, NO_PARTS, part)
        elif scheme_of(url) == HUB_SCHEME:
            data = read_from_hub(files, path, SILENCE_SECONDS, start, end)
        else:
            data = files.cat_file(path, start=start, end=end)
        if len(data) > n_bytes:
            raise DecodeError(NO_PARTS)
        if len(data) < n_bytes:
            raise EOFError(f"{len(data):,} bytes came of {n_bytes:,}")
        return data

    return ask(url, read) if n_bytes > 0 else b""


def open_remote(url: str, n_bytes: int) -> BinaryIO:
    """Open a remote file for reading from any place in it; each part is asked for by a request of its own.

    Parameters
    ----------
    url : str
    n_bytes : int
        Size of the file.

    Returns
    -------
    file object
        Buffered and seekable. One thread at a time reads it. What reading raises is that of `read_part`.
    """
    return io.BufferedReader(_Parts(url, n_bytes), BLOCK_BYTES)


class _Parts(io.RawIOBase):
    """A remote file that is read part by part."""

    def __init__(self, url: str, n_bytes: int) -> None:
        self.url, self.n_bytes, self.at = url, n_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.n_bytes}[whence]
        if start + offset < 0:
            raise ValueError("a place before the beginning of the file")
        self.at = start + offset
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = read_part(self.url, self.at, min(self.at + len(view), self.n_bytes))
        view[: len(data)] = data
        self.at += len(data)
        return len(data)
