"""Google's credentials: where they are looked for, for how long, and what is done without them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import fsspec
import gcsfs
import pytest

from cnncodes.errors import ImagesError
from cnncodes.images import google_storage as module
from cnncodes.images import network
from cnncodes.images.google_storage import google_storage
from cnncodes.images.network import file_system


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in (module.KEY_FILE, module.GRPC_SWITCH, "NO_GCE_CHECK", *module.METADATA_HOSTS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    pauses = SimpleNamespace(sleep=lambda seconds: pytest.fail("a pause was made"))
    monkeypatch.setattr("google.auth._exponential_backoff.time", pauses)
    network._file_system.cache_clear()
    yield
    network._file_system.cache_clear()


@pytest.fixture
def silent_metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A metadata server that hangs up on whoever asks; who has asked."""
    callers: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            callers.append("caller")
            connection.close()

    threading.Thread(target=hang_up, daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.getsockname()[1]}")
    yield callers
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_without_credentials_the_metadata_server_is_asked_once_for_all_buckets(silent_metadata: list[str]) -> None:
    files = file_system("gs://one/a.png")
    assert file_system("gcs://two/b.png") is files
    assert files.credentials.token == "anon"
    assert len(silent_metadata) == 1


def test_credentials_of_the_user_are_used_and_project_with_them(tmp_path: Path, monkeypatch) -> None:
    secrets = {"type": "authorized_user", "client_id": "me", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "key.json").write_text(json.dumps(secrets))
    monkeypatch.setenv(module.KEY_FILE, str(tmp_path / "key.json"))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    files = google_storage({}, None)
    assert files.credentials.credentials.client_id == "me"
    assert files.project == "my-project"


def test_a_file_of_credentials_that_cannot_be_used_is_said(tmp_path: Path, monkeypatch, silent_metadata) -> None:
    monkeypatch.setenv(module.KEY_FILE, str(tmp_path / "gone.json"))
    with pytest.raises(ImagesError, match=r"^GOOGLE_APPLICATION_CREDENTIALS: .*gone\.json was not found"):
        file_system("gs://bucket/")
    assert silent_metadata == []


def test_what_is_configured_is_not_looked_for(monkeypatch, silent_metadata: list[str]) -> None:
    monkeypatch.setitem(fsspec.config.conf, "gcs", {"token": "anon", "requester_pays": "me"})
    files = file_system("gs://bucket/")
    assert (files.credentials.token, files.requester_pays) == ("anon", "me")
    assert silent_metadata == []


def test_a_kept_token_of_gcsfs_is_used(monkeypatch, silent_metadata: list[str]) -> None:
    from google.oauth2.credentials import Credentials

    tokens = {("", "full_control"): Credentials("token of the browser")}
    monkeypatch.setattr("gcsfs.credentials.GoogleCredentials.tokens", tokens)
    assert google_storage({}, None).credentials.credentials.token == "token of the browser"


def test_the_file_system_of_others_stays_as_it_is(monkeypatch, silent_metadata: list[str]) -> None:
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    theirs = fsspec.filesystem("gs")
    ours = file_system("gs://bucket/")
    assert ours is not theirs
    assert "_request" not in vars(theirs)
    assert type(ours) is gcsfs.core.GCSFileSystem
    monkeypatch.setenv(module.GRPC_SWITCH, "true")
    assert type(google_storage(fsspec.config.conf, None)) is type(theirs)


def test_a_request_fails_at_once(monkeypatch, silent_metadata: list[str]) -> None:
    files = google_storage({"gs": {"token": "anon"}}, aiohttp.ClientTimeout(total=1))
    pauses: list[Any] = []
    monkeypatch.setattr("gcsfs.retry.asyncio.sleep", lambda *seconds: pauses.append(seconds))
    with pytest.raises(aiohttp.ClientConnectorError):
        files.cat_file("bucket/a.png")
    assert pauses == []
