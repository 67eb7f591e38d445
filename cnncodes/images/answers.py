"""What errors of file systems of fsspec mean: whether to ask again, and why it failed.

Their libraries are not imported here, so classes are known by their names; subclasses count, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

from cnncodes.errors import first_line
from cnncodes.urls import without_secrets

__all__ = [
    "UNREACHED",
    "WITHOUT_CREDENTIALS",
    "is_one_of",
    "is_temporary",
    "meant",
    "reason_of",
    "seconds_told",
    "status_of",
]

LONGEST_TOLD_SECONDS = 300  # that a service may ask for by Retry-After; the Hub counts requests over as many
RATE_LIMIT = re.compile(r";r=0;t=(\d+)")  # of the Hub: nothing is left for so many seconds
REQUEST_STATUSES = (408, 425, 429)  # of 4xx, those that another try may change
TEMPORARY = {"ClientConnectionError", "ClientPayloadError"} | {  # aiohttp
    *("HTTPClientError", "EndpointConnectionError", "ResponseParserError", "IncompleteReadError"),  # botocore
    *("TransportError", "RequestException", "IncompleteRead"),  # httpx and google.auth, requests, http.client
}
UNREACHED = {"ClientConnectorError", "EndpointConnectionError", "ConnectError", "ConnectionRefusedError"}
LASTING = {"ClientConnectorCertificateError", "SSLCertVerificationError", "InvalidURL", "InvalidSchema"}
WITHOUT_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"} | {
    *("TokenRetrievalError", "ProfileNotFound", "DefaultCredentialsError", "RefreshError", "LocalTokenNotFoundError")
}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def is_one_of(error: BaseException, names: set[str]) -> bool:
    """Whether an error, or what it was raised from, is of a class of one of these names."""
    return any(kind.__name__ in names for one in _causes(error) for kind in type(one).__mro__)


def status_of(error: BaseException) -> int | None:
    """Return the status of HTTP that an error tells of, however its library keeps it."""
    for one in _causes(error):
        if str(one).startswith("Forbidden: "):  # as gcsfs says it, and nothing else
            return HTTPStatus.FORBIDDEN
        if is_one_of(one, {"HttpProcessingError"}):  # aiohttp calls an answer that ends too early a bad request
            continue
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for value in (getattr(one, "status", None), getattr(one, "code", None), response):
            digits = str(getattr(value, "status_code", value))
            if digits.isdecimal() and 300 <= int(digits) < 600:
                return int(digits)
    return None


def meant(error: Exception) -> Exception:
    """Return what went wrong: fsspec says of a web server that does not answer that it has no such file."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and is_temporary(cause):
        return cause
    return error


def is_temporary(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return False
    if is_one_of(error, LASTING):
        return False
    if is_one_of(error, WITHOUT_CREDENTIALS):  # Google gives no new token: for now, or because the network is gone
        return is_one_of(error, {"TransportError"}) or any(getattr(one, "retryable", False) for one in _causes(error))
    if isinstance(error, TimeoutError):
        return True
    if (status := status_of(error)) is not None:
        return status >= 500 or status in REQUEST_STATUSES
    return isinstance(error, (ConnectionError, EOFError, OSError)) or is_one_of(error, TEMPORARY)


def reason_of(error: Exception) -> str:
    """Return why a request failed, in words for the person who made it, without secrets."""
    status = status_of(error)
    if status is not None:
        known = status in HTTPStatus.__members__.values()
        words = f"{status} {HTTPStatus(status).phrase}" if known else str(status)
        if isinstance(error, FileNotFoundError) or status == 404:
            return f"not there, or private ({words})" if status == 401 else f"no such file ({words})"
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


def seconds_told(error: Exception) -> int:
    """Return for how many seconds an answer asks to be left alone; 0 if it does not say."""
    seconds = 0
    is_rate = status_of(error) == HTTPStatus.TOO_MANY_REQUESTS
    for one in _causes(error):
        response = getattr(one, "response", one)
        of_botocore = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        headers = of_botocore.get("HTTPHeaders") or getattr(response, "headers", None) or {}
        words = {str(name).lower(): str(value) for name, value in headers.items()}
        rate = RATE_LIMIT.search(words.get("ratelimit", "")) if is_rate else None
        told = rate[1] if rate else words.get("retry-after", "")
        seconds = max(seconds, min(int(told), LONGEST_TOLD_SECONDS) if told.isdecimal() else 0)
    return seconds
