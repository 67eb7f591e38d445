"""Which names mean archives: one, several by a pattern or in a folder, or a folder within one."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cnncodes.errors import ImagesError
from cnncodes.images.files import image_suffixes, some_names
from cnncodes.images.network import ask, file_system, listing_errors
from cnncodes.urls import WEB_SCHEMES, as_path_or_url, is_url, public_url, scheme_of, without_query

__all__ = ["ArchiveNames", "archives_among", "archives_in", "archives_named", "chained", "is_archive_name"]

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", *TAR_SUFFIXES)
CHAIN = re.compile(r"(?:zip|tar)(?:://(.*?))?::(.+)", re.IGNORECASE | re.DOTALL)  # as fsspec writes it
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
WILDCARD = re.compile(r"[*?\[]")
MAX_ARCHIVES = 1_000_000  # that braces may stand for


@dataclass
class ArchiveNames:
    """Archives that are read as one set of images.

    Attributes
    ----------
    root : str
        What was given, for errors.
    paths : list of str
        Paths or URLs of the archives.
    names : list of str
        What the ids of the images of each begin with; empty texts for one archive that is named plainly.
    within : str
        The folder or the file in them that is meant; empty for all.
    notes : list of str
    """

    root: str
    paths: list[str]
    names: list[str]
    within: str = ""
    notes: list[str] = field(default_factory=list)


def is_archive_name(name: str) -> bool:
    """Whether a path or a URL ends like that of an archive.

    Examples
    --------
    >>> is_archive_name("photos.TAR.gz"), is_archive_name("https://host/a.zip?x=1"), is_archive_name("a.png")
    (True, True, False)
    """
    return without_query(name).lower().endswith(SUFFIXES)


def archives_named(source: Any) -> ArchiveNames | None:
    """Return the archives that a source of images means; None if it means something else.

    Parameters
    ----------
    source : object
        A path, a URL, a pattern of either (``shard-{000..099}.tar``, ``shards/*.tar``), a chained URL
        (``zip://folder::photos.zip``), or a list of archives.

    Raises
    ------
    ImagesError
        A pattern has no match.
    """
    if isinstance(source, (list, tuple)):
        texts = [os.fspath(item) for item in source if isinstance(item, (str, os.PathLike))]
        if not texts or len(texts) < len(source) or not all(map(is_archive_name, texts)) or any(map(chained, texts)):
            return None
        return _several("the archives given", [as_path_or_url(text) for text in texts])
    if not isinstance(source, (str, os.PathLike)):
        return None
    chain = chained(os.fspath(source))
    within, place = chain or ("", as_path_or_url(source))
    if not (is_archive_name(place) or chain) or os.path.isdir(place):
        return None
    root = public_url(os.fspath(source))
    if os.path.lexists(place) or not (BRACES.search(place) or _has_wildcards(place)):
        return ArchiveNames(root, [place], [""], within)
    paths = [path for expanded in _without_braces(place) for path in _matches(expanded)]
    if not paths:
        raise ImagesError(f"{root}: no archive has such a name")
    return _several(root, paths, within)


def chained(url: str) -> tuple[str, str] | None:
    """Return the folder or file, and the archive, that a chained URL names; None if it is no such URL.

    Examples
    --------
    >>> chained("zip://cat/1.png::photos.zip"), chained("zip::s3://b/photos.zip"), chained("s3://b/photos.zip")
    (('cat/1.png', 'photos.zip'), ('', 's3://b/photos.zip'), None)
    """
    match = CHAIN.fullmatch(url)
    return None if match is None else ((match[1] or "").strip("/"), as_path_or_url(match[2]))


def archives_in(folder: str) -> ArchiveNames | None:
    """Return the tar archives below a folder that holds no image, as WebDatasets are kept; None if it has others."""
    names: list[str] = []
    try:
        for path in _files_below(folder):
            if os.path.splitext(path)[1].lower() in image_suffixes():
                return None
            names.append(os.path.relpath(path, folder))
    except OSError:  # who looks for images in the folder will say it
        return None
    return archives_among(folder, os.path.join(folder, ""), names)


def archives_among(folder: str, base: str, names: Iterable[str]) -> ArchiveNames | None:
    """Return the tar archives among the files below a folder that holds no image; None if there are none.

    Parameters
    ----------
    folder : str
        Path or URL of the folder as it was given, for errors.
    base : str
        What the names of the files are added to.
    names : iterable of str
    """
    archives: list[str] = []
    others: list[str] = []
    for name in sorted(names):
        (archives if name.lower().endswith(TAR_SUFFIXES) else others).append(name)
    notes = [f"files beside the archives, not read: {some_names(others)}"] if others else []
    paths = [base + name for name in archives]
    return ArchiveNames(folder, paths, [f"{name}/" for name in archives], notes=notes) if archives else None


def _files_below(folder: str) -> Iterator[str]:
    """Yield the files below a folder that are not hidden; each folder is entered once, by its own name if it can be."""
    folders, seen = deque([folder]), set[tuple[int, int]]()
    while folders:
        path = folders.pop()
        status = os.stat(path)
        if (key := (status.st_dev, status.st_ino)) in seen:
            continue
        seen.add(key)
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir():
                    yield entry.path
                elif entry.is_symlink():
                    folders.appendleft(entry.path)
                else:
                    folders.append(entry.path)


def _several(root: str, paths: list[str], within: str = "") -> ArchiveNames:
    """Return archives with names that are relative to the folder which all of them lie in."""
    places = [without_query(public_url(path)).replace(os.sep, "/") for path in paths]
    if twice := [place for place, n in Counter(places).items() if n > 1]:
        raise ImagesError(f"{root}: the same archive is named twice: {some_names(twice)}")
    folders = [place.split("/")[:-1] for place in places]
    levels = enumerate(zip(*folders, strict=False))
    n_common = next((depth for depth, names in levels if len(set(names)) > 1), min(map(len, folders)))
    return ArchiveNames(root, paths, ["/".join(place.split("/")[n_common:]) + "/" for place in places], within)


def _without_braces(pattern: str) -> list[str]:
    """Return the patterns that braces stand for: ``{00..11}`` for numbers, ``{a,b}`` for words.

    Examples
    --------
    >>> _without_braces("{a,b}-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    match = BRACES.search(pattern)
    if match is None:
        return [pattern]
    if match[3] is not None:
        words = match[3].split(",")
    else:
        first, last = int(match[1]), int(match[2])
        if abs(last - first) >= MAX_ARCHIVES:
            raise ImagesError(
                f"{public_url(pattern)}: {abs(last - first) + 1:,} archives, more than the limit of {MAX_ARCHIVES:,}"
            )
        step = 1 if first <= last else -1
        words = [f"{number:0{len(match[1])}d}" for number in range(first, last + step, step)]
    start, end = pattern[: match.start()], pattern[match.end() :]
    return list(dict.fromkeys(path for word in words for path in _without_braces(f"{start}{word}{end}")))


def _has_wildcards(name: str) -> bool:
    """Whether a name stands for several files of a listing; in a URL of the web ``?`` begins the query."""
    return WILDCARD.search(name) is not None and scheme_of(name) not in WEB_SCHEMES


def _matches(pattern: str) -> list[str]:
    """Return the files that a pattern stands for, sorted; a name without wildcards stands for itself."""
    if not _has_wildcards(pattern):
        return [pattern]
    if not is_url(pattern):
        return sorted(glob.glob(pattern, recursive=True))
    files = file_system(pattern)
    files.invalidate_cache()
    with listing_errors(pattern):
        paths = ask(pattern, lambda: files.glob(files._strip_protocol(pattern)))
    return sorted(files.unstrip_protocol(path) for path in paths)
