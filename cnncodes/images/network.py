"""Asks file systems of fsspec, and asks again while an answer may still come."""

from __future__ import annotations

import functools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from http import HTTPStatus
from typing import Any, TypeVar

from cnncodes.errors import DecodeError, ImagesError, MissingLibraryError, first_line
from cnncodes.system.optional import require
from cnncodes.system.process import register_worker
from cnncodes.urls import WEB_SCHEMES, base_of, public_url, scheme_of, without_secrets

__all__ = ["CONNECTIONS", "ask", "askers", "file_system", "listing_errors"]

T = TypeVar("T")

CONNECTIONS = 64  # that are open to one service at a time
SILENCE_SECONDS = 15.0  # of a web server, after which a request is given up
PATIENCE_SECONDS = 30.0  # for answers that fail for a while, after which a file counts as not read
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 8.0
MAX_FAILURES_IN_A_ROW = 64  # files that nobody answered for, before the network counts as gone
REQUEST_STATUSES = (408, 425, 429)  # of 4xx, those that another try may change
# Names of classes, because their libraries are not imported here; subclasses count, too
TEMPORARY = {"ClientConnectionError", "ClientPayloadError"} | {  # aiohttp
    *("HTTPClientError", "ResponseParserError", "IncompleteReadError"),  # botocore
    *("TransportError", "RequestException", "IncompleteRead"),  # httpx and google.auth, requests, http.client
}
LASTING = {"ClientConnectorCertificateError", "SSLCertVerificationError", "InvalidURL", "InvalidSchema"}
WITHOUT_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"} | {
    *("TokenRetrievalError", "ProfileNotFound", "DefaultCredentialsError", "RefreshError", "LocalTokenNotFoundError")
}
CREDENTIALS = (  # where fsspec looks for credentials, by scheme
    ("s3", "the environment (AWS_ACCESS_KEY_ID …), ~/.aws, the role of the machine, or FSSPEC_S3_ANON=true for none"),
    ("gs", "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or FSSPEC_GS_TOKEN=anon for none"),
    ("hf", "HF_TOKEN, or `hf auth login`"),
    ("http", "the URL (https://NAME:PASSWORD@HOST/…, neither shown nor kept), or ~/.netrc"),
)
OTHER_CREDENTIALS = "FSSPEC_{} in the environment, or in ~/.config/fsspec"

S3_SCHEMES = ("s3", "s3a")
LOGGERS = {"gs": "gcsfs", "gcs": "gcsfs"}  # that write tracebacks to stderr, beside the error itself

# Of file systems that have one connection; two callers at a time would read each other's answers
TURNS = {"ftp": threading.Lock()}

_lock = threading.Lock()
_failures_in_a_row = 0


def _mute(name: str | None) -> None:
    """Let a logger write nothing to stderr by itself; whoever has configured logging still gets all."""
    if name is not None and not (logger := logging.getLogger(name)).handlers:
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
    base = base_of(url)
    scheme, _, place = base.partition("://")
    if scheme.lower() in S3_SCHEMES and ":" in place and not place.startswith("arn:"):
        raise ImagesError(f"{scheme}:// URLs hold no keys; write {scheme}://bucket/…: {_credentials(url)}")
    return _file_system(base, os.getpid())


@functools.lru_cache(maxsize=256)
def _file_system(base: str, process: int) -> Any:  # a process that is forked has no threads of its parent
    scheme = scheme_of(base)
    fsspec = require("fsspec", f"reading {scheme}:// URLs")
    _mute(LOGGERS.get(scheme))
    try:
        return fsspec.core.url_to_fs(base, **_options(scheme))[0]
    except ImportError as error:
        extra = "pip install 'cnncodes[remote]'" if scheme in ("s3", "s3a", "gs", "gcs", "http", "https", "hf") else ""
        raise MissingLibraryError(
            f"{scheme}:// URLs need a library ({first_line(error)}){f': {extra}' if extra else ''}"
        ) from error
    except Exception as error:  # some connect at once, and each library raises its own
        raise ImagesError(f"{public_url(base)}: {_reason(error)}") from error


def _options(scheme: str) -> dict[str, Any]:
    """Return what a file system is told beside what the user has configured for it."""
    configured = require("fsspec.config", f"reading {scheme}:// URLs").conf
    if scheme in S3_SCHEMES:
        given = configured.get("s3", {}).get("config_kwargs", {})
        ours = {"max_pool_connections": CONNECTIONS, "retries": {"total_max_attempts": 1}}  # `ask` tries again
        return {"config_kwargs": {**ours, **given}, "max_concurrency": 1}  # or each file would be asked for its size
    if scheme in WEB_SCHEMES:
        web = require("aiohttp", f"reading {scheme}:// URLs")
        timeout = web.ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
        ours = {"timeout": timeout, "trust_env": True}  # proxies and ~/.netrc, as other programs use them
        return {"client_kwargs": {**ours, **configured.get(scheme, {}).get("client_kwargs", {})}}
    return {}


def ask(url: str, action: Callable[[], T]) -> T:
    """Return what `action` returns, tried again after failures that may pass, with longer and longer pauses.

    Parameters
    ----------
    url : str
        What is asked for, for errors.
    action : callable

    Raises
    ------
    DecodeError
        It failed for good, or for `PATIENCE_SECONDS`; the message is the reason.
    ImagesError
        There are no credentials; or so many requests in a row failed that the network, or the service, is gone.
    """
    global _failures_in_a_row
    started, pause, n_tries = time.monotonic(), FIRST_PAUSE_SECONDS, 0
    while True:
        n_tries += 1
        try:
            with TURNS.get(scheme_of(url), nullcontext()):
                answer = action()
        except Exception as raised:  # each library raises its own
            error = _meant(raised)
            if isinstance(error, (ImagesError, MissingLibraryError)):
                raise
            if _is_one_of(error, WITHOUT_CREDENTIALS):
                raise ImagesError(f"{public_url(url)}: {_reason(error)}; {_credentials(url)}") from error
            if not _is_temporary(error):
                raise DecodeError(_reason(error)) from error
            if time.monotonic() - started + pause > PATIENCE_SECONDS:
                _count_failure(url, error)
                tries = f" ({n_tries} tries in {time.monotonic() - started:.0f} s)"
                raise DecodeError(_reason(error) + tries) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # or all that failed at once would come back at once
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        else:
            _failures_in_a_row = 0
            return answer


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
        f"{_reason(error)}. The network or the service is down. What is done is kept: run the same command again"
    ) from error


@contextmanager
def listing_errors(url: str) -> Iterator[None]:
    """Say in one line why a folder or a table cannot be read at all."""
    try:
        yield
    except DecodeError as error:
        refused = isinstance(error.__cause__, PermissionError) or _status(error) in (401, 403)
        advice = f"; {_credentials(url)}" if refused else ""
        raise ImagesError(f"{public_url(url)}: {error}{advice}") from error


@contextmanager
def askers(n: int | None) -> Iterator[ThreadPoolExecutor]:
    """Threads that ask services, as many as usual if `n` is None; after an error, or Ctrl-C, nobody waits for them."""
    pool = ThreadPoolExecutor(n, initializer=lambda: register_worker(threading.current_thread()))
    try:
        yield pool
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _credentials(url: str) -> str:
    scheme = scheme_of(url)
    place = next((text for name, text in CREDENTIALS if scheme.startswith(name)), "")
    return f"credentials are taken from {place or OTHER_CREDENTIALS.format(scheme.upper() + '_…')}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_one_of(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for one in _causes(error) for kind in type(one).__mro__)


def _status(error: BaseException) -> int | None:
    """Return the status of HTTP that an error tells of, however its library keeps it."""
    for one in _causes(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for value in (getattr(one, "status", None), getattr(one, "code", None), response):
            digits = str(getattr(value, "status_code", value))
            if digits.isdecimal() and 300 <= int(digits) < 600:
                return int(digits)
    return None


def _meant(error: Exception) -> Exception:
    """Return what went wrong: fsspec says of a web server that does not answer that it has no such file."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and _is_temporary(cause):
        return cause
    return error


def _is_temporary(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return False
    if _is_one_of(error, LASTING):
        return False
    if isinstance(error, TimeoutError):
        return True
    if (status := _status(error)) is not None:
        return status >= 500 or status in REQUEST_STATUSES
    return isinstance(error, (ConnectionError, EOFError, OSError)) or _is_one_of(error, TEMPORARY)


def _reason(error: Exception) -> str:
    """Return why a request failed, in words for the person who made it, without secrets."""
    status = _status(error)
    if status is not None:
        known = status in HTTPStatus.__members__.values()
        words = f"{status} {HTTPStatus(status).phrase}" if known else str(status)
        if isinstance(error, FileNotFoundError) or status == 404:
            return f"no such file ({words})"
        return f"no permission to read it ({words})" if status in (401, 403) else f"the server answers {words}"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    line, _, rest = str(error).strip().partition("\n")
    if line.endswith(":") and rest:  # as of botocore, whose second line has what is wrong
        return without_secrets(f"{line} {rest.partition(': ')[0]}")
    return without_secrets(first_line(error))
