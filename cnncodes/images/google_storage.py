"""The file system of ``gs://`` URLs: Google's credentials found within seconds, and requests that fail at once."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

from cnncodes.errors import ImagesError, first_line
from cnncodes.system.optional import require

__all__ = ["GOOGLE_SCHEMES", "google_storage"]

USE = "reading gs:// URLs"
GOOGLE_SCHEMES = ("gs", "gcs")
GRPC_SWITCH = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"  # of gcsfs
KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
METADATA_HOSTS = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT")


def google_storage(configured: Mapping[str, Any], timeout: Any) -> Any:
    """Return a file system of gcsfs that no other code of the process shares.

    By default gcsfs asks by gRPC what kind of bucket it reads, before each listing and each file of a bucket that does
    not say: without credentials that is a search for credentials each time, and where gRPC is blocked a minute. What
    is read here needs none of it, unless the environment asks for it (for buckets in one zone).

    Parameters
    ----------
    configured : mapping
        What the user has configured for file systems, by scheme.
    timeout : aiohttp.ClientTimeout
        When a request counts as not answered.

    Raises
    ------
    ImagesError
        The file of credentials that the environment names cannot be used.
    """
    gcsfs = require("gcsfs", USE)
    kind = gcsfs.GCSFileSystem if GRPC_SWITCH in os.environ else gcsfs.core.GCSFileSystem
    settings = {name: value for scheme in GOOGLE_SCHEMES for name, value in configured.get(scheme, {}).items()}
    options = {"requests_timeout": timeout, "session_kwargs": {"trust_env": True}, **settings}
    if "token" not in settings and not any(os.environ.get(name) for name in METADATA_HOSTS):
        options |= _credentials(settings)
    files = kind(**options, skip_instance_cache=True)
    if (once := getattr(kind._request, "__wrapped__", None)) is not None:
        files._request = functools.partial(once, files)  # or gcsfs would try for half a minute by itself
    return files


def _credentials(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of gcsfs for the credentials that are found: in its order, but not in its time."""
    auth = require("google.auth", USE)
    scope = f"https://www.googleapis.com/auth/devstorage.{settings.get('access', 'full_control')}"
    try:
        credentials, project = auth.default(scopes=[scope], request=_request_of_metadata())
    except auth.exceptions.DefaultCredentialsError as error:
        if os.environ.get(KEY_FILE):
            raise ImagesError(f"{KEY_FILE}: {first_line(error)}") from error
        tokens = require("gcsfs.credentials", USE).GoogleCredentials.tokens
        return {"token": "cache" if tokens else "anon"}
    return {"token": credentials, **({"project": project} if project else {})}


def _request_of_metadata() -> Any:
    """Return what asks the metadata server of a cloud machine.

    Google's library asks three times whether there is one, with pauses, when it gets no answer. That there is none is
    an answer here; a machine that knows by its firmware that it is one of Google's is believed all the same.
    """
    transport_error = require("google.auth.exceptions", USE).TransportError

    class Request(require("google.auth.transport.requests", USE).Request):  # type: ignore[misc]
        def __call__(self, *args: Any, **options: Any) -> Any:
            try:
                return super().__call__(*args, **options)
            except transport_error:
                return SimpleNamespace(status=HTTPStatus.SERVICE_UNAVAILABLE, headers={}, data=b"")

    return Request()
