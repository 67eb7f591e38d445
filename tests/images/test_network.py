"""Requests that fail: which are made again, which are given up, and what is said."""

import functools
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future

import fsspec
import pytest
from network_errors import AnswerError, ends_too_early, named, refresh_error, told

from cnncodes.errors import DecodeError, ImagesError, MissingLibraryError
from cnncodes.images import network
from cnncodes.images.network import ask, asking_threads, file_system, listing_errors
from cnncodes.system.process import has_workers

URL = "s3://bucket/a.png"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(network, "_failures_in_a_row", 0)
    monkeypatch.setattr(network, "_waits", {})


@pytest.mark.parametrize(
    "error",
    [AnswerError(500), AnswerError(503), AnswerError(429), AnswerError(408), TimeoutError()]
    + [ConnectionResetError(104, "reset"), OSError(16, "Please reduce your request rate"), EOFError("half of it")]
    + [named("ClientPayloadError"), named("HTTPClientError"), named("TransportError")]
    + [named("EndpointConnectionError"), ends_too_early(), refresh_error("TransportError"), refresh_error(None)],
    ids=str,
)
def test_what_may_pass_is_asked_for_again(error: Exception) -> None:
    errors = [error, error]

    def action() -> str:
        if errors:
            raise errors.pop()
        return "bytes"

    assert ask(URL, action) == "bytes"
    assert not errors


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AnswerError(404), "no such file (404 Not Found)"),
        (AnswerError(403), "no permission to read it (403 Forbidden)"),
        (AnswerError(400), "the server answers 400 Bad Request"),
        (FileNotFoundError("bucket/a.png"), "no such file"),
        (PermissionError("Access Denied"), "no permission to read it"),
        (OSError("Forbidden: b/bucket/o\nme does not have access"), "no permission to read it (403 Forbidden)"),
        (named("ClientConnectorCertificateError"), "words of the library"),
        (
            ValueError("Validation failed:\nInvalid bucket name: it must match x"),
            "Validation failed: Invalid bucket name",
        ),
        (ValueError("in https://me:pw@host/a.png?sig=abc"), "in https://host/a.png"),
    ],
    ids=str,
)
def test_what_does_not_pass_is_asked_for_once(error: Exception, reason: str) -> None:
    tries = []

    def action() -> None:
        tries.append(1)
        raise error

    with pytest.raises(DecodeError) as caught:
        ask(URL, action)
    assert (str(caught.value), len(tries)) == (reason, 1)


def test_patience_ends_and_the_reason_says_how_often_it_was_tried() -> None:
    def action() -> None:
        raise AnswerError(503)

    with pytest.raises(DecodeError, match=r"^the server answers 503 Service Unavailable \(\d+ tries in \d s\)$"):
        ask(URL, action)


def test_a_service_that_cannot_be_reached_is_given_up_sooner_when_a_command_begins(monkeypatch) -> None:
    monkeypatch.setattr(network, "CONTACT_SECONDS", 0.0)
    tries: list[Exception] = []

    def fail(error: Exception) -> None:
        tries.append(error)
        raise error

    unreached = type("ClientConnectorError", (OSError,), {})()
    for error in (unreached, named("EndpointConnectionError"), ConnectionRefusedError()):
        with pytest.raises(DecodeError, match=r"\(1 tries in 0 s\)$"):
            ask(URL, functools.partial(fail, error), is_first=True)
    assert len(tries) == 3
    for error, is_first in ((AnswerError(503), True), (unreached, False)):
        with pytest.raises(DecodeError):
            ask(URL, functools.partial(fail, error), is_first=is_first)
        assert tries.count(error) > 1


def test_a_service_that_names_a_time_is_left_alone_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(network, "sleep", slept.append)
    errors = [told(429, {"Retry-After": "7"})]

    def action() -> str:
        if errors:
            raise errors.pop()
        return "bytes"

    assert ask(URL, action) == ask("s3://bucket/other.png", action) == "bytes"
    assert max(slept) == pytest.approx(7, abs=0.5)
    n_pauses = len(slept)
    assert network.waits_until() > 0
    assert ask("s3://elsewhere/a.png", action) == "bytes"
    assert len(slept) == n_pauses


def test_a_failure_after_a_time_that_a_service_named_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 0.5)
    network._waits["s3://bucket/"] = time.monotonic() + 0.7  # another reader was told so
    errors = [ConnectionResetError(104, "reset")]

    def action() -> str:
        if errors:
            raise errors.pop()
        return "bytes"

    assert ask(URL, action) == "bytes"


def test_whoever_has_pressed_ctrl_c_waits_for_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PATIENCE_SECONDS", 2000.0)
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 1000.0)
    pressed = threading.Event()
    monkeypatch.setattr("cnncodes.system.interrupt._interrupted", pressed)
    threading.Timer(0.1, pressed.set).start()
    with pytest.raises(ImagesError, match=r"^s3://bucket/a\.png: interrupted$"):
        ask(URL, lambda: (_ for _ in ()).throw(AnswerError(503)))


def test_when_nobody_answers_any_more_that_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MAX_FAILURES_IN_A_ROW", 3)

    def fail() -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    def try_twice() -> None:
        for _ in range(2):
            with pytest.raises(DecodeError):
                ask(URL, fail)

    try_twice()
    ask(URL, lambda: "an answer")  # counts from 0 again
    try_twice()
    with pytest.raises(ImagesError, match=r"s3://bucket/: 3 files in a row .*Connection refused.*same command again"):
        ask(URL, fail)
    try_twice()


def test_missing_credentials_are_one_error_that_says_where_they_are_looked_for() -> None:
    def action() -> None:
        raise named("NoCredentialsError")

    with pytest.raises(ImagesError, match=r"^s3://bucket/a\.png: .*AWS_ACCESS_KEY_ID.*FSSPEC_S3_ANON"):
        ask(URL, action)
    with pytest.raises(ImagesError, match="credentials are taken from HF_TOKEN"), listing_errors("hf://datasets/a/b"):
        ask("hf://datasets/a/b", lambda: (_ for _ in ()).throw(AnswerError(401)))
    with pytest.raises(ImagesError, match=r"from the URL .*~/\.netrc"), listing_errors("https://host/a.csv"):
        ask("https://host/a.csv", lambda: (_ for _ in ()).throw(AnswerError(401)))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network._file_system.cache_clear()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    with pytest.raises(
        MissingLibraryError, match=r"^s3:// URLs need a library \(.*s3fs.*pip install 'cnncodes\[remote\]'$"
    ):
        file_system("s3://bucket/")
    with pytest.raises(MissingLibraryError, match=r"^smb:// URLs need a library \(.*smbprotocol"):
        file_system("smb://host/")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingLibraryError, match=r"reading gs:// URLs needs fsspec.*cnncodes\[remote\]"):
        file_system("gs://bucket/")


@pytest.mark.parametrize("url", ["s3://me:SECRET@bucket/photos/", "s3a://me:SEC/RET@bucket/photos/"])
def test_keys_in_a_url_of_s3_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ImagesError, match=r"^s3a?:// URLs hold no keys; .*AWS_ACCESS_KEY_ID") as error:
        file_system(url)
    assert "SEC" not in str(error.value)
    assert file_system("s3://arn:aws:s3:us-east-1:1:accesspoint/mine/a.png")


def test_a_service_that_is_asked_at_once_and_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def url_to_fs(url: str, **options: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(ImagesError, match=r"^ftp://refuses/: .*Connection refused$"):
        file_system("ftp://me:pw@refuses/photos/")


def test_the_library_of_google_writes_no_tracebacks_to_stderr() -> None:
    script = (
        "import logging; from cnncodes.images import network; network._mute(network.LOGGERS);"
        "logging.getLogger('gcsfs.credentials').error('a traceback');"
        "logging.getLogger('google.auth.compute_engine._metadata').warning('not there');"
        "logging.getLogger('other').error('shown')"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert made.stderr == "shown\n"


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ImagesError, match="foo://x/: Protocol not known"):
        file_system("foo://x/a.png")


def test_one_file_system_serves_a_bucket() -> None:
    assert file_system("memory://one/a.png") is file_system("memory://one/b/c.png")


def test_after_an_error_no_answer_is_waited_for() -> None:
    go, started, answers = threading.Event(), time.monotonic(), list[Future[bool]]()

    def be_interrupted() -> None:
        with asking_threads(2) as pool:
            answers.extend(pool.submit(go.wait, 30) for _ in range(4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert time.monotonic() - started < 20
    assert has_workers()  # nor does the program wait for them when it ends
    go.set()
    assert [answer.cancelled() or answer.result() for answer in answers] == [True] * 4
    assert [answer.cancelled() for answer in answers] == [False, False, True, True]
    with asking_threads(2) as pool:
        answers = [pool.submit(go.wait) for _ in range(4)]
    assert [answer.done() for answer in answers] == [True] * 4


def test_a_service_with_one_connection_is_asked_by_one_at_a_time() -> None:
    asking, most = Counter[str](), Counter[str]()
    lock = threading.Lock()

    def action(scheme: str) -> None:
        with lock:
            asking[scheme] += 1
            most[scheme] = max(most[scheme], asking[scheme])
        time.sleep(0.02)
        with lock:
            asking[scheme] -= 1

    with asking_threads(8) as pool:
        list(pool.map(lambda scheme: ask(f"{scheme}://host/a.png", lambda: action(scheme)), ["ftp", "s3"] * 8))
    assert most["ftp"] == 1
    assert most["s3"] > 1
