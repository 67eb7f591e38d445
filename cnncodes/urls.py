"""URLs: which text is one, its parts, and what of it may be shown and kept."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

__all__ = [
    "WEB_SCHEMES",
    "as_path_or_url",
    "base_of",
    "is_url",
    "public_url",
    "scheme_of",
    "suffix_of",
    "without_query",
    "without_secrets",
]

URL = re.compile(r"([a-z][a-z0-9+.-]+)(://|::.*://)", re.IGNORECASE)  # two letters at least: C:\ and C:// are drives
CHAIN = re.compile(r"::(?=[a-z][a-z0-9+.-]+://)", re.IGNORECASE)
# A URL in a text, or a parameter behind one with a space, a quotation mark or a bracket in it
IN_TEXT = re.compile(r"([a-z][a-z0-9+.-]+://[^\s'\"<>\\)]+)|[?&]([^\s?&=]+)=[^\s&'\"<>\\)]*", re.IGNORECASE)
BASE = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*/?", re.IGNORECASE)
LOCAL_SCHEMES = frozenset({"file", "local"})
WEB_SCHEMES = frozenset({"http", "https"})
CONTAINER_SCHEMES = frozenset({"abfs", "abfss", "wasb", "wasbs"})  # abfs://container@account/: no user, no password
S3_KEYS = re.compile(r"(s3[an]?://)(?!arn:)[^/@:]+:[^@]*@", re.IGNORECASE)  # with slashes; no bucket has a colon
SECRET_PARAMETER = re.compile(
    r"x-(amz|goog|oss|cos|ms)-|.*(signature|token|secret|password|passwd|credential|access_?-?key|api_?-?key|jwt)"
    r"|(sig|auth|authorization|session|googleaccessid|key-pair-id|policy|expires|key|pwd)$",
    re.IGNORECASE,
)
SHARED_ACCESS = frozenset({"sv", "ss", "srt", "sp", "st", "se", "spr", "sr", "sip", "skoid", "sktid", "skt", "ske"}) | {
    *("sks", "skv", "sdd")  # Azure signs by `sig` beside these, which change with each signature
}


def is_url(source: Any) -> bool:
    """Whether a source of images is a URL, as ``s3://bucket/photos/``; a drive of Windows is none.

    Examples
    --------
    >>> is_url("s3://bucket/photos/"), is_url("zip://a.png::s3://b/c.zip"), is_url(r"C:\\photos"), is_url("photos/")
    (True, True, False, False)
    """
    return isinstance(source, str) and URL.match(source) is not None


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in small letters: ``s3``, ``https``; an empty string if the text is no URL."""
    match = URL.match(url)
    return match[1].lower() if match else ""


def as_path_or_url(source: str | os.PathLike[str]) -> str:
    """Return a source as text: a URL as it is, the path that a ``file:`` URL means, or a path.

    Examples
    --------
    >>> as_path_or_url("file:///tmp/my%20photos"), as_path_or_url("s3://bucket/my photos")
    ('/tmp/my photos', 's3://bucket/my photos')
    """
    text = os.fspath(source)
    if scheme_of(text) in LOCAL_SCHEMES and "::" not in text:
        return unquote(re.split("[?#]", f"/{text.removeprefix(base_of(text))}", maxsplit=1)[0])
    return text


def base_of(url: str) -> str:
    """Return the beginning of a URL up to its host or bucket, which many files have in common.

    Examples
    --------
    >>> base_of("s3://bucket/photos/1.png"), base_of("https://host/a.png?x=1")
    ('s3://bucket/', 'https://host/')
    """
    match = BASE.match(url)
    return match[0] if match else ""


def suffix_of(url: str) -> str:
    """Return the suffix of the file that a URL names, in small letters.

    Examples
    --------
    >>> suffix_of("https://host/a.PNG?size=2"), suffix_of("s3://bucket.png/photos/")
    ('.png', '')
    """
    path = without_query(url).removeprefix(base_of(url))
    return "" if path.endswith("/") else PurePosixPath(path).suffix.lower()


def without_query(url: str) -> str:
    """Return a URL of the web up to its query or fragment, and anything else as it is.

    Examples
    --------
    >>> without_query("https://host/a.png?x=1"), without_query("s3://bucket/what? a#1.png")
    ('https://host/a.png', 's3://bucket/what? a#1.png')
    """
    return re.split("[?#]", url, maxsplit=1)[0] if scheme_of(url) in WEB_SCHEMES else url


def public_url(url: str) -> str:
    """Return a URL, or a chain of them, without what is secret: passwords, and the parameters of signed requests.

    Examples
    --------
    >>> public_url("https://me:pw@host/a.png?id=3&X-Amz-Signature=1f&X-Amz-Date=2")
    'https://host/a.png?id=3'
    >>> public_url("s3://bucket/what? a#1.png")
    's3://bucket/what? a#1.png'
    """
    return "::".join(map(_public, CHAIN.split(url)))


def _public(url: str) -> str:
    url = S3_KEYS.sub(r"\1", url)
    base = base_of(url)
    if "@" in base and scheme_of(url) not in CONTAINER_SCHEMES:
        host = base.rpartition("@")[2]
        url = f"{base.partition('://')[0]}://{host}{url.removeprefix(base)}"
    if scheme_of(url) not in WEB_SCHEMES:
        return url
    place, query = without_query(url), url.partition("#")[0].partition("?")[2]
    parameters = parse_qsl(query, keep_blank_values=True)
    hidden = SHARED_ACCESS if {"sig", "sv"} <= {name.lower() for name, _ in parameters} else frozenset()
    kept = [(name, value) for name, value in parameters if not SECRET_PARAMETER.match(name) and name not in hidden]
    query = query if len(kept) == len(parameters) else urlencode(kept)
    return f"{place}?{query}" if query else place


def without_secrets(text: str) -> str:
    """Return a text with each URL in it as `public_url` gives it."""

    def public(match: re.Match[str]) -> str:
        if match[1]:
            return public_url(match[1])
        return "" if SECRET_PARAMETER.match(match[2]) else match[0]

    return IN_TEXT.sub(public, text)
