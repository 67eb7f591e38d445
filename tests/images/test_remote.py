"""Files by their URLs, in fsspec's memory: read whole and in parts, stamped, pickled, named."""

from __future__ import annotations

import contextlib
import functools
import pickle
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images import network, remote
from cnncodes.images.remote import RemoteFile, fetch_stamps, open_remote, read_part, stamp_in

DATA = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/a/big.bin", DATA)
    yield files
    files.rm("/bucket", recursive=True)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 0.2)


def test_a_file_is_read_and_stamped(memory: Any) -> None:
    file = RemoteFile.of("memory://bucket/a/big.bin")
    assert (file.size, file.changed) == (-1, -1)
    assert file.read_bytes() == DATA
    fetch_stamps([file, "not a remote file"])
    assert file.size == len(DATA)
    assert 0 <= file.changed < 2**63
    first = file.changed
    memory.pipe("/bucket/a/big.bin", DATA)
    again = RemoteFile.of(file.url)
    fetch_stamps([again])
    assert again.changed != first  # written later
    gone = RemoteFile.of("memory://bucket/gone.png")
    fetch_stamps([gone])
    assert (gone.size, gone.changed) == (-1, -1)
    with pytest.raises(DecodeError, match=r"^no such file$"):
        gone.read_bytes()


def test_an_etag_tells_more_than_a_time() -> None:
    listing = {"name": "b/x", "size": 3, "ETag": '"abc"', "LastModified": "today"}
    assert stamp_in(listing) == stamp_in({**listing, "LastModified": "tomorrow"})
    assert stamp_in(listing) != stamp_in({**listing, "ETag": '"abd"'})
    assert stamp_in({"size": None}) == (-1, -1)
    assert stamp_in({"size": 0, "mtime": 12.5})[0] == 0
    google = {"name": "b/x", "size": 3, "etag": "CJ=", "generation": "7", "md5Hash": "abc="}
    assert stamp_in(google) == stamp_in({**google, "etag": "CK=", "generation": "8"})  # the same bytes, put again
    assert stamp_in(google) != stamp_in({**google, "md5Hash": "abd="})
    assert stamp_in({**google, "contentEncoding": "gzip"})[0] == -1


def test_a_million_files_take_little(memory: Any) -> None:
    base = "memory://bucket/"
    file = RemoteFile(base, "a/big.bin", 3, 4)
    assert not hasattr(file, "__dict__")
    assert sys.getsizeof(file) < 100
    copy = pickle.loads(pickle.dumps(file))
    assert (copy.url, copy.size, copy.changed) == (file.url, 3, 4)
    names = [f"{i:06d}.png" for i in range(1000)]
    packed = pickle.dumps([RemoteFile(base, name, 3, 4) for name in names])
    assert packed.count(base.encode()) == 1
    assert len(packed) < 60 * len(names)


@pytest.mark.parametrize(
    ("url", "beside", "parent"),
    [
        ("s3://b/x/images.csv", "s3://b/x/a/1.png", "s3://b/x"),
        ("s3://b/images.csv", "s3://b/a/1.png", "s3://b/"),
        ("https://me:pw@h/x/images.csv?sig=1", "https://h/x/a/1.png", "https://h/x"),
        ("hf://datasets/o/n/images.csv", "hf://datasets/o/n/a/1.png", "hf://datasets/o/n"),
    ],
)
def test_files_beside_a_table(url: str, beside: str, parent: str) -> None:
    file = RemoteFile.of(url)
    assert str(file.beside("a/1.png")) == str(file.beside("./b/../a/1.png")) == beside
    assert file.parent == parent
    assert "pw" not in repr(file)
    assert "pw" in RemoteFile.of("https://me:pw@h/x.csv").beside("y.png").url


def test_a_name_is_no_query() -> None:
    assert RemoteFile.of("https://h/x.csv").beside("a#1?.png").url == "https://h/a%231%3F.png"
    assert RemoteFile.of("s3://b/x.csv").beside("a#1?.png").url == "s3://b/a#1?.png"


def test_parts_of_a_file(memory: Any) -> None:
    with open_remote("memory://bucket/a/big.bin", len(DATA)) as stream:
        assert stream.seekable()
        stream.seek(-100, 2)
        assert (stream.read(), stream.tell()) == (DATA[-100:], len(DATA))
        stream.seek(5)
        assert stream.read(2_000_000) == DATA[5:2_000_005]
        stream.seek(len(DATA) + 5)
        assert stream.read(1) == b""
        with pytest.raises(ValueError):
            stream.seek(-1)
    with pytest.raises(DecodeError, match=r"^no such file$"):
        open_remote("memory://bucket/gone.zip", 5).read()
    assert read_part("memory://bucket/a/big.bin", 5, 9) == DATA[5:9]


def test_what_comes_short_is_read_again(memory: Any, monkeypatch, short_patience: None) -> None:
    cut = [10, 10]
    whole = type(memory).cat_file

    def cut_short(self: Any, path: str, start: Any = None, end: Any = None) -> bytes:
        return whole(self, path, start, end)[: cut.pop() if cut else None]

    monkeypatch.setattr(type(memory), "cat_file", cut_short)
    file = RemoteFile("memory://bucket/", "a/big.bin", len(DATA), 1)
    assert file.read_bytes() == DATA
    assert not cut
    cut = [10]
    assert read_part(file.url, 5, 25) == DATA[5:25]
    assert not cut
    cut = [10] * 1000
    with pytest.raises(DecodeError, match=r"^10 bytes came of 3,000,000 \(\d+ tries"):
        file.read_bytes()


def test_a_file_that_has_changed_since_it_was_listed_is_read(memory: Any) -> None:
    assert RemoteFile("memory://bucket/", "a/big.bin", 5, 1).read_bytes() == DATA


def test_several_threads_read_one_file(memory: Any) -> None:
    file = RemoteFile.of("memory://bucket/a/big.bin")
    with ThreadPoolExecutor(8) as pool:
        assert all(data == DATA for data in pool.map(lambda _: file.read_bytes(), range(32)))


def test_limits(memory: Any) -> None:
    with pytest.raises(DecodeError, match="more than the limit"):
        RemoteFile("memory://bucket/", "a/big.bin", 2**31 + 1, 1).read_bytes()
    with pytest.raises(ImagesError, match="a chain of URLs"):
        RemoteFile.of("simplecache::file:///etc/passwd")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server that gives no parts of files, as the simplest do."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    (tmp_path / "big.bin").write_bytes(DATA)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_tells_no_length_until_the_file_is_read(web: str, short_patience: None, monkeypatch) -> None:
    def do_HEAD(self: SimpleHTTPRequestHandler) -> None:  # as servers answer that know only what they make on demand
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "do_HEAD", do_HEAD)
    file = RemoteFile.of(f"{web}/big.bin")
    file.fetch_stamp()
    assert file.size == 0
    assert file.read_bytes() == DATA
    monkeypatch.setattr(remote, "MAX_UNTOLD_BYTES", 2_000_000)
    with pytest.raises(DecodeError, match=r"^more than 2,000,000 bytes came$"):
        file.read_bytes()


def test_a_web_server_that_never_answers_is_not_waited_for_file_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(network, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(network, "MAX_FAILURES_IN_A_ROW", 3)
    monkeypatch.setattr(network, "_failures_in_a_row", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(ImagesError, match=r"3 files in a row could not .*: no answer in time\. The"):
            fetch_stamps([RemoteFile(url, f"{number}.png") for number in range(3)])


def test_an_answer_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "MAX_UNTOLD_BYTES", 2_000_000)
    n_sent = []

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while len(n_sent) < 1000:
                    n_sent.append(self.wfile.write(bytes(100_000)))

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with pytest.raises(DecodeError, match=r"^more than 2,000,000 bytes came$"):
        RemoteFile.of(f"http://127.0.0.1:{server.server_port}/camera.jpg").read_bytes()
    server.shutdown()
    server.server_close()
    assert len(n_sent) < 1000


def test_an_answer_that_ends_too_early_is_asked_for_again(short_patience: None, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sizes = [len(DATA), 10_000, 10_000]

    class Tired(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA[: sizes.pop()])

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tired)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    assert RemoteFile.of(f"http://127.0.0.1:{server.server_port}/big.bin").read_bytes() == DATA
    server.shutdown()
    server.server_close()
    assert sizes == []


def test_a_web_server_is_read(web: str, short_patience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    file = RemoteFile.of(f"{web}/big.bin?token=secret")
    assert file.read_bytes() == DATA
    file.fetch_stamp()
    assert file.size == len(DATA)
    assert file.changed >= 0  # by the time of the last change
    with pytest.raises(DecodeError, match=r"^its server gives no parts of files; fetch the archive"):
        read_part(file.url, 5, 25)
    with pytest.raises(DecodeError, match=r"^no such file$"):
        RemoteFile.of(f"{web}/gone.png").read_bytes()
    with pytest.raises(DecodeError, match=r"^Cannot connect to host 127\.0\.0\.1:9 .*tries"):
        RemoteFile.of("http://127.0.0.1:9/a.png?token=secret").read_bytes()
