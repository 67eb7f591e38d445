"""Asks file systems of fsspec, and asks again while an answer may still come."""

from __future__ import annotations

import functools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from cnncodes.errors import DecodeError, ImagesError, MissingLibraryError, first_line
from cnncodes.images.answers import (
    UNREACHED,
    WITHOUT_CREDENTIALS,
    is_one_of,
    is_temporary,
    meant,
    reason_of,
    seconds_told,
    status_of,
)
from cnncodes.images.google_storage import GOOGLE_SCHEMES, google_storage
from cnncodes.images.hub import HUB_SCHEME
from cnncodes.system.interrupt import sleep
from cnncodes.system.optional import require
from cnncodes.system.process import register_worker
from cnncodes.urls import WEB_SCHEMES, base_of, public_url, scheme_of

__all__ = ["CONNECTIONS", "SILENCE_SECONDS", "ask", "asking_threads", "file_system", "listing_errors", "waits_until"]

T = TypeVar("T")

CONNECTIONS = 64  # that are open to one service at a time
SILENCE_SECONDS = 15.0  # of a web server, after which a request is given up
PATIENCE_SECONDS = 30.0  # for answers that fail for a while, after which a file counts as not read
CONTACT_SECONDS = 4.0  # for a service that cannot be reached when a command begins: the person who typed it waits
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 8.0
MAX_FAILURES_IN_A_ROW = 64  # files that nobody answered for, before the network counts as gone
CREDENTIALS = (  # where fsspec looks for credentials, by scheme
    ("s3", "the environment (AWS_ACCESS_KEY_ID …), ~/.aws, the role of the machine, or FSSPEC_S3_ANON=true for none"),
    ("gs", "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or FSSPEC_GS_TOKEN=anon for none"),
    ("hf", "HF_TOKEN, or `hf auth login`"),
    ("http", "the URL (https://NAME:PASSWORD@HOST/…, neither shown nor kept), or ~/.netrc"),
)
OTHER_CREDENTIALS = "FSSPEC_{} in the environment, or in ~/.config/fsspec"

S3_SCHEMES = ("s3", "s3a")
LOGGERS = ("gcsfs", "google.auth")  # which write tracebacks to stderr, beside the error itself

# For file systems that have one connection; two callers at a time would read each other's answers
TURNS = {"ftp": threading.Lock()}

_lock, _opening = threading.Lock(), threading.Lock()
_failures_in_a_row = 0
_waits: dict[str, float] = {}  # by base of URLs, until when a service has asked to be left alone


def _mute(names: Iterable[str]) -> None:
    """Let loggers write nothing to stderr by themselves; whoever has configured logging still gets all."""
    for name in names:
        if not (logger := logging.getLogger(name)).handlers:
            logger.addHandler(logging.NullHandler())


def file_system(url: str) -> Any:
    """Return the file system of fsspec for a URL; one for each process and base of URLs.

    Raises
    ------
    MissingLibraryError
        fsspec, or the library for such URLs, is not installed.
    ImagesError
        fsspec knows no such URLs, or the service refuses to be asked at all.
    """
    base = "gs://" if scheme_of(url) in GOOGLE_SCHEMES else base_of(url)  # credentials are looked for once
    scheme, _, place = base.partition("://")
    if scheme.lower() in S3_SCHEMES and ":" in place and not place.startswith("arn:"):
        raise ImagesError(f"{scheme}:// URLs hold no keys; write {scheme}://bucket/…: {_credentials(url)}")
    with _opening:  # or many threads would look for them at a time
        return _file_system(base, os.getpid())


@functools.lru_cache(maxsize=256)
def _file_system(base: str, process: int) -> Any:  # a process that is forked has no threads of its parent
    scheme = scheme_of(base)
    fsspec = require("fsspec", f"reading {scheme}:// URLs")
    try:
        if scheme in GOOGLE_SCHEMES:
            _mute(LOGGERS)
            return google_storage(fsspec.config.conf, _silence())
        return fsspec.core.url_to_fs(base, **_options(scheme))[0]
    except (ImagesError, MissingLibraryError):
        raise
    except ImportError as error:
        extra = "pip install 'cnncodes[remote]'" if scheme in {*S3_SCHEMES, *WEB_SCHEMES, HUB_SCHEME} else ""
        raise MissingLibraryError(
            f"{scheme}:// URLs need a library ({first_line(error)}){f': {extra}' if extra else ''}"
        ) from error
    except Exception as error:  # some connect at once, and each library raises its own
        raise ImagesError(f"{public_url(base)}: {reason_of(error)}") from error


def _options(scheme: str) -> dict[str, Any]:
    """Return what a file system is told beside what the user has configured for it."""
    configured = require("fsspec.config", f"reading {scheme}:// URLs").conf
    if scheme in S3_SCHEMES:
        given = configured.get("s3", {}).get("config_kwargs", {})
        ours = {"max_pool_connections": CONNECTIONS, "retries": {"total_max_attempts": 1}}  # `ask` tries again
        ours |= {"connect_timeout": SILENCE_SECONDS, "read_timeout": SILENCE_SECONDS}
        return {"config_kwargs": {**ours, **given}, "max_concurrency": 1}  # or each file would be asked for its size
    if scheme in WEB_SCHEMES:
        ours = {"timeout": _silence(), "trust_env": True}  # proxies and ~/.netrc, as other programs use them
        return {"client_kwargs": {**ours, **configured.get(scheme, {}).get("client_kwargs", {})}}
    return {}


def _silence() -> Any:
    """Return the timeouts of a request of aiohttp."""
    web = require("aiohttp", "reading URLs")
    return web.ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)


def ask(url: str, action: Callable[[], T], *, is_first: bool = False) -> T:
    """Return what `action` returns, tried again after failures that may pass, with longer and longer pauses.

    Parameters
    ----------
    url : str
        What is asked for, for errors.
    action : callable
    is_first : bool, default=False
        It is the first question of a command, which waits no longer than `CONTACT_SECONDS` for a connection.

    Raises
    ------
    DecodeError
        It failed for good, or for `PATIENCE_SECONDS`; the message is the reason.
    ImagesError
        There are no credentials; or so many requests in a row failed that the network, or the service, is gone.
    """
    global _failures_in_a_row
    started, pause, told, n_tries = time.monotonic(), FIRST_PAUSE_SECONDS, 0.0, 0
    while True:
        n_tries += 1
        wait = _waits.get(base_of(url), 0.0) - time.monotonic()
        told = max(told, wait)  # by another answer, perhaps
        _pause(url, wait)
        try:
            with TURNS.get(scheme_of(url), nullcontext()):
                answer = action()
        except Exception as raised:  # each library raises its own
            error = meant(raised)
            if isinstance(error, (ImagesError, MissingLibraryError)):
                raise
            if not is_temporary(error):
                if is_one_of(error, WITHOUT_CREDENTIALS):
                    raise ImagesError(f"{public_url(url)}: {reason_of(error)}; {_credentials(url)}") from error
                raise DecodeError(reason_of(error)) from error
            told = max(told, _told_wait(url, error))
            is_away = is_first and is_one_of(error, UNREACHED)
            patience = min(PATIENCE_SECONDS, CONTACT_SECONDS) if is_away else PATIENCE_SECONDS + told
            if time.monotonic() - started + pause > patience:
                _count_failure(url, error)
                tries = f" ({n_tries} tries in {time.monotonic() - started:.0f} s)"
                raise DecodeError(reason_of(error) + tries) from error
            _pause(url, pause * random.uniform(0.5, 1.0))  # or all that failed at once would come back at once
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        else:
            _failures_in_a_row = 0
            return answer


def _pause(url: str, seconds: float) -> None:
    """Wait; whoever has pressed Ctrl-C waits for no service."""
    if seconds > 0 and sleep(seconds):
        raise ImagesError(f"{public_url(url)}: interrupted")


def waits_until() -> float:
    """Return until when, by `time.monotonic`, a service has asked to be left alone; 0 if none has."""
    return max(_waits.values(), default=0.0)


def _told_wait(url: str, error: Exception) -> float:
    """Return for how many seconds an answer asks to be left alone, and keep in mind that it does."""
    seconds = seconds_told(error)
    if seconds:
        with _lock:
            base = base_of(url)
            _waits[base] = max(_waits.get(base, 0.0), time.monotonic() + seconds)
    return float(seconds)


def _count_failure(url: str, error: Exception) -> None:
    """Raise if so many requests in a row failed that further ones would only be recorded as failures."""
    global _failures_in_a_row
    with _lock:
        _failures_in_a_row += 1
        if _failures_in_a_row < MAX_FAILURES_IN_A_ROW:
            return
        _failures_in_a_row = 0
    raise ImagesError(
        f"{public_url(base_of(url))}: {MAX_FAILURES_IN_A_ROW} files in a row could not be read, the last because of: "
        f"{reason_of(error)}. The network or the service is down. What is done is kept: run the same command again"
    ) from error


@contextmanager
def listing_errors(url: str) -> Iterator[None]:
    """Say in one line why a folder or a table cannot be read at all."""
    try:
        yield
    except DecodeError as error:
        refused = isinstance(error.__cause__, PermissionError) or status_of(error) in (401, 403)
        advice = f"; {_credentials(url)}" if refused else ""
        raise ImagesError(f"{public_url(url)}: {error}{advice}") from error


@contextmanager
def asking_threads(number: int | None) -> Iterator[ThreadPoolExecutor]:
    """Give threads that ask for several things at a time; after an error, as after Ctrl-C, no answer is waited for.

    Parameters
    ----------
    number : int or None
        How many there are; None for as many as usual.
    """
    pool = ThreadPoolExecutor(number, initializer=lambda: register_worker(threading.current_thread()))
    try:
        yield pool
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _credentials(url: str) -> str:
    scheme = scheme_of(url)
    place = next((text for name, text in CREDENTIALS if scheme.startswith(name)), "")
    return f"credentials are taken from {place or OTHER_CREDENTIALS.format(scheme.upper() + '_…')}"
