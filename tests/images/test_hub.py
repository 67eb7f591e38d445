"""Files of the Hugging Face Hub: one request reads one, without a look at the folder that it lies in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import huggingface_hub
import numpy as np
import pytest
from hub_server import running_hub

from cnncodes.errors import DecodeError
from cnncodes.images import hub as module
from cnncodes.images import network
from cnncodes.images.hub import read_from_hub
from cnncodes.images.network import asking_threads, file_system
from cnncodes.images.remote import RemoteFile, fetch_stamps, read_part

DATA = np.random.default_rng(0).bytes(3000)
NAME = "photos/a é#?%20.png"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / NAME).parent.mkdir()
    (tmp_path / NAME).write_bytes(DATA)
    with running_hub() as hub:
        hub.upload(tmp_path, "o/n")
        hub.upload(tmp_path, "o/n", "other/", revision="refs/pr/1")
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": hub.url})
        network._file_system.cache_clear()
        yield hub
        network._file_system.cache_clear()


def test_one_request_reads_a_file_or_a_part_of_it(hub: Any) -> None:
    url = f"hf://datasets/o/n/{NAME}"
    assert RemoteFile.of(url).read_bytes() == DATA
    assert read_part(url, 5, 25) == DATA[5:25]
    assert (hub.count("/resolve/"), hub.count("/tree/")) == (2, 0)
    with pytest.raises(DecodeError, match=r"^no such file \(404 Not Found\)$"):
        RemoteFile.of("hf://datasets/o/n/gone.png").read_bytes()
    with pytest.raises(DecodeError, match=r"^not there, or private \(401 Unauthorized\)$"):
        RemoteFile.of("hf://datasets/o/none/1.png").read_bytes()


def test_what_was_listed_to_ask_for_changes_is_not_kept(hub: Any) -> None:
    file = RemoteFile.of(f"hf://datasets/o/n/{NAME}")
    fetch_stamps([file])
    assert (file.size, file.changed > 0, hub.count("/tree/")) == (len(DATA), True, 1)
    assert not file_system(file.url).dircache


def test_the_hub_is_asked_once_whether_there_is_a_dataset_however_many_read_it(hub: Any) -> None:
    hub.fault = lambda path, n: time.sleep(0.2) if "/api/" in path else None
    with asking_threads(8) as pool:
        files = list(pool.map(lambda _: RemoteFile.of(f"hf://datasets/o/n/{NAME}").read_bytes(), range(8)))
    assert files == [DATA] * 8
    assert (hub.count("/api/"), hub.count("/resolve/")) == (1, 8)


def test_readers_of_a_silent_hub_do_not_wait_one_after_the_other(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 0.0)
    hub.fault = lambda path, n: time.sleep(0.5) or (503, {})

    def read(_: int) -> None:
        with pytest.raises(DecodeError, match="503"):
            RemoteFile.of(f"hf://datasets/o/n/{NAME}").read_bytes()

    started = time.monotonic()
    with asking_threads(8) as pool:
        list(pool.map(read, range(8)))
    assert time.monotonic() - started < 3


def test_a_request_for_changes_has_a_revision_of_its_own(hub: Any) -> None:
    assert RemoteFile.of(f"hf://datasets/o/n@refs%2Fpr%2F1/other/{NAME}").read_bytes() == DATA


def test_a_bucket_has_no_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[str, Any]] = []

    def get(url: str, **options: Any) -> Any:
        requests.append((url, options))
        return SimpleNamespace(content=b"bytes")

    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: SimpleNamespace(get=get))
    monkeypatch.setattr(huggingface_hub.utils, "hf_raise_for_status", lambda response: None)
    place = SimpleNamespace(bucket_id="o/b", path="a b/1.png")
    files = SimpleNamespace(resolve_path=lambda path: place, endpoint="https://hub", token="secret")
    assert read_from_hub(files, "buckets/o/b/a b/1.png", 15.0, 3, 7) == b"bytes"
    [(url, options)] = requests
    assert (url, options["timeout"]) == ("https://hub/buckets/o/b/resolve/a%20b/1.png", 15.0)
    assert options["headers"]["Range"] == "bytes=3-6"
    assert options["headers"]["authorization"] == "Bearer secret"
