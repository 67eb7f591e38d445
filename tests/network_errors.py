"""Errors as the libraries of object stores and web servers raise them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class AnswerError(Exception):
    """An error as libraries of HTTP raise it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} for https://me:pw@host/a.png?sig=abc")
        self.status = status


class HttpProcessingError(Exception):
    """A name of aiohttp."""


def named(name: str) -> Exception:
    """An error of a library that is not imported."""
    return type(name, (Exception,), {})("words of the library")


def ends_too_early() -> Exception:
    """An error of aiohttp, whose cause calls an answer that ends too early a bad request."""
    error, cause = named("ClientPayloadError"), type("ContentLengthError", (HttpProcessingError,), {})()
    cause.code, error.__cause__ = 400, cause
    return error


def refresh_error(cause: str | None) -> Exception:
    """An error of gcsfs: Google gave no new token, because of the network or because it says to try again."""
    error, refusal = AnswerError(401), named("RefreshError")
    refusal.retryable, refusal.__cause__ = cause is None, named(cause) if cause else None
    error.__cause__ = refusal
    return error


def told(status: int, headers: dict[str, str], *, of_botocore: bool = False) -> Exception:
    """An error whose answer has headers."""
    error: Any = AnswerError(status)
    error.response = SimpleNamespace(headers=headers, status_code=status)
    if of_botocore:
        error.response = {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "3"}}}
    return error
