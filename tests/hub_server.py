"""A Hugging Face Hub on this machine with datasets in memory, which answers what HfFileSystem asks, and counts it.

As the real one, it lists a folder in pages, sends a file by way of another address, answers with 401 for what is
private or not there, with 403 for what is gated, and tells by headers which of these it is.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 5  # entries on a page of a list; the real one has 1,000
TOKEN = "hf_token_of_the_tests"
MISSING = (401, "RepoNotFound", "Invalid username or password.")  # what is private and what is not there are told alike
GATED = (403, "GatedRepo", "Access to dataset o/gated is restricted and you are not in the authorized list.")

Fault = Callable[[str, int], tuple[int, dict[str, str]] | None]


class Hub:
    """A server of datasets.

    Attributes
    ----------
    datasets : dict
        Files by their paths, by the revision ``main`` or another one, by the name of the dataset.
    private, gated : set of str
        Datasets that only `TOKEN` opens, and such that nothing does.
    asked : Counter of str
        How often each path was asked for, without its query.
    fault : callable
        Returns status and headers of what the n-th request for a path gets instead of an answer, or None.
    """

    def __init__(self) -> None:
        self.datasets: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private, self.gated = {"o/private"}, {"o/gated"}
        self.forget()
        self.server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def forget(self) -> None:
        """Count from 0, without faults."""
        self.asked = Counter[str]()
        self.fault: Fault = lambda path, n: None

    def count(self, part: str) -> int:
        """Return how often paths with this part were asked for."""
        return sum(n for path, n in self.asked.items() if part in path)

    def upload(self, folder: Path, dataset: str, prefix: str = "", revision: str = "main") -> None:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        revisions = self.datasets.setdefault(dataset, {"main": {}})
        revisions.setdefault(revision, {}).update({prefix + name: data for name, data in files.items()})

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, hub: Hub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.hub.asked[path] += 1
        if (fault := self.hub.fault(path, self.hub.asked[path])) is not None:
            return self.answer(fault[0], b"{}", fault[1])
        if path.startswith("/storage/"):  # where the real one sends to a host of its own, by a signed address
            return self.send_part(next(data for data in self.all_files() if _digest(data) == path.split("/")[-1]))
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree)/(.*))?", address.path):
            return self.describe(match[1], match[2] or "", match[3] or "main", parse_qs(address.query))
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.*)", address.path):
            files, name = self.files(match[1], unquote(match[2])), unquote(match[3])
            if files is not None and name in files:
                self.answer(302, b"", {"Location": f"{self.hub.url}/storage/{_digest(files[name])}?sig=secret"})
            elif files is not None:
                self.refuse(404, "EntryNotFound", "Entry not found")
            return None
        return self.refuse(404, "", "Not found")

    def all_files(self) -> Iterator[bytes]:
        for revisions in self.hub.datasets.values():
            for files in revisions.values():
                yield from files.values()

    def files(self, dataset: str, revision: str) -> dict[str, bytes] | None:
        """Return the files of a revision; or answer that there are none, and return None."""
        is_known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if dataset not in self.hub.datasets or (dataset in self.hub.private and not is_known):
            self.refuse(*MISSING)
        elif dataset in self.hub.gated:
            self.refuse(*GATED)
        elif revision not in self.hub.datasets[dataset]:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return self.hub.datasets[dataset][revision]
        return None

    def describe(self, dataset: str, what: str, rest: str, query: dict[str, list[str]]) -> None:
        revision, _, folder = (unquote(part) for part in rest.partition("/"))
        if dataset in self.hub.gated and what != "tree":  # whoever may not read it may see that it is there
            return self.answer(200, _json({"id": dataset}))
        if (files := self.files(dataset, revision)) is None:
            return None
        if what != "tree":
            return self.answer(200, _json({"id": dataset, "sha": revision}))
        start = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for name, data in sorted(files.items()):
            inner, slash, _ = name.removeprefix(start).partition("/")
            if not name.startswith(start):
                continue
            entry = {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
            folder_entry = {"type": "directory", "path": start + inner, "size": 0, "oid": "0" * 40}
            entries[start + inner] = folder_entry if slash else entry
        if folder and not entries:
            return self.refuse(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        at = int(query.get("cursor", ["0"])[0])
        place = f"{self.hub.url}/api/datasets/{dataset}/tree/{rest}?cursor={at + PAGE}"
        more = {"Link": f'<{place}>; rel="next"'} if at + PAGE < len(entries) else {}
        return self.answer(200, _json([*entries.values()][at : at + PAGE]), more)

    def send_part(self, data: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            return self.answer(200, data)
        return self.answer(206, data[int(match[1]) : int(match[2]) + 1 if match[2] else None])

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, _json({"error": message}), {"X-Error-Code": code, "X-Error-Message": message})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()
