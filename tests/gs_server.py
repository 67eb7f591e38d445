"""A server of Google Cloud Storage on this machine, which fails as it is told, and counts what it is asked for.

It is gcp-storage-emulator, which differs from the real service in what matters here: it asks for no credentials, puts
any list on one page, and takes the MD5 of an object as its etag. The real etag changes with each upload and with each
change of metadata, and so it does here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import Request, urlopen

Fault = Callable[[str, int], str]  # (path, how often it was asked for) -> "", a status, or a fault

MESSAGES = {"403": "me@project.iam.gserviceaccount.com does not have storage.objects.list access to the bucket"}


class FaultyGS:
    """A server that keeps buckets in memory.

    Attributes
    ----------
    gets, infos : Counter of str
        How often the bytes, and the description, of each object were asked for, by its path ``bucket/key``.
    lists : int
        How often a bucket was listed.
    fault : callable
        Says what goes wrong with the n-th request for a path, or for ``"list"``: a status like ``"503"``, ``"reset"``,
        ``"truncated"``, ``"silent"``; an empty text if nothing does.
    """

    def __init__(self) -> None:
        from gcp_storage_emulator.storage import Storage

        logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
        logging.getLogger("api.object").setLevel(logging.CRITICAL)
        self.storage = Storage(use_memory_fs=True)
        self.forget()
        self.server = _Server(("127.0.0.1", 0), partial(_handler(), self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def forget(self) -> None:
        """Count from 0, without faults."""
        self.gets, self.infos, self.lists = Counter[str](), Counter[str](), 0
        self.fault: Fault = lambda path, n: ""

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fault_of(self, path: str) -> str:
        """Count a GET of a path; return what goes wrong with it."""
        place = path.partition("?")[0]
        if place.startswith("/download/"):
            name = unquote(place.partition("/b/")[2].replace("/o/", "/", 1))
            self.gets[name] += 1
            return self.fault(name, self.gets[name])
        if place.endswith("/o"):
            self.lists += 1
            return self.fault("list", self.lists)
        self.infos[unquote(place.partition("/b/")[2].replace("/o/", "/", 1))] += 1
        return ""

    def put(self, bucket: str, key: str, data: bytes, encoding: str = "") -> None:
        url = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}"
        urlopen(Request(url, data, {"Content-Type": "application/octet-stream"})).close()
        description = self.storage.get_file_obj(bucket, key)
        description["etag"] = f"C{description['generation']}="
        if encoding:
            description["contentEncoding"] = encoding

    def delete(self, bucket: str, key: str) -> None:
        urlopen(Request(f"{self.url}/storage/v1/b/{bucket}/o/{quote(key, safe='')}", method="DELETE")).close()

    def upload(self, folder: Path, bucket: str, prefix: str = "") -> None:
        """Make a bucket of the files below a folder."""
        description = json.dumps({"name": bucket}).encode()
        urlopen(Request(f"{self.url}/storage/v1/b", description, {"Content-Type": "application/json"})).close()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, prefix + path.relative_to(folder).as_posix(), path.read_bytes())


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # connections are made 64 at a time


def _handler() -> Any:
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.server import RequestHandler

    class Handler(RequestHandler):
        def __init__(self, faulty: FaultyGS, *args: Any) -> None:
            self.faulty = faulty
            super().__init__(faulty.storage, *args)

        def do_GET(self) -> None:
            fault = self.faulty.fault_of(self.path)
            if fault.isdecimal():
                error = {"error": {"code": int(fault), "message": MESSAGES.get(fault, "Try again later.")}}
                self.send_response(int(fault))
                self.end_headers()
                self.wfile.write(json.dumps(error).encode())
            elif fault == "silent":
                time.sleep(5)
            elif fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            else:
                if fault == "truncated":
                    self.wfile = _Half(self.wfile)
                super().do_GET()

        def send_header(self, name: str, value: str) -> None:
            """Send a header, and before the length the encoding, which the emulator keeps to itself."""
            if name == "Content-Length" and self.path.startswith("/download/"):
                bucket, _, key = unquote(self.path.partition("?")[0].partition("/b/")[2]).partition("/o/")
                with contextlib.suppress(NotFound):
                    if encoding := self.storage.get_file_obj(bucket, key).get("contentEncoding"):
                        super().send_header("Content-Encoding", encoding)
            super().send_header(name, value)

        def log_message(self, *words: object) -> None:
            pass

    return Handler


class _Half:
    """A stream that takes half of the second thing that is written: headers come first, and then the body."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.n_written = stream, 0

    def write(self, data: bytes) -> None:
        self.stream.write(data[: len(data) // 2] if self.n_written else data)
        self.n_written += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def running_gs() -> Iterator[FaultyGS]:
    server = FaultyGS()
    try:
        yield server
    finally:
        server.close()
