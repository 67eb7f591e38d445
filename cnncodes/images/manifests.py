"""Images that a table names: CSV or TSV with the columns path,label[,group][,split]."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from cnncodes.display import without_csv_mark
from cnncodes.errors import parameter
from cnncodes.images.archive_names import chained
from cnncodes.images.archives import ArchiveMembers
from cnncodes.images.files import as_on_disk, as_text, failures_of, refuse_entries, some_names
from cnncodes.images.image_set import ImageSet
from cnncodes.images.labels import remarks_on
from cnncodes.images.remote import RemoteFile
from cnncodes.images.stored_file import StoredFile
from cnncodes.images.tables import COLUMNS, SEPARATORS, Table, read_table
from cnncodes.urls import as_path_or_url, is_url, public_url
from cnncodes.vocabulary import SPLITS, split_of

__all__ = ["MANIFESTS", "from_manifest", "named_files"]

MANIFESTS = tuple(SEPARATORS)


def from_manifest(path: Path | RemoteFile, labelled: bool, allow_outside: bool) -> ImageSet:
    """Return the images that a table names.

    Parameters
    ----------
    path : Path or RemoteFile
        A ``.csv`` or ``.tsv`` file.
    labelled, allow_outside : bool
        As for `load_images`.

    Raises
    ------
    ImagesError
        The table cannot be read, lacks a column, or has rows with a fault; the message names their lines.
    """
    table = read_table(path, list(COLUMNS)[: 1 + labelled])
    names = table.column("path")
    if isinstance(path, RemoteFile):
        ids, sources = remote_files(path, names, table.lines, allow_outside)
    else:
        ids, sources = named_files(path, names, table.lines, allow_outside)
    columns = {name: _column(path, name, table) for name in ("label", "group", "split")}
    if splits := columns["split"]:
        wrong = [(line, name) for line, name in zip(table.lines, splits, strict=True) if split_of(name) is None]
        refuse_entries(path, wrong, "no such split", f"write one of {', '.join(SPLITS)}")
        splits = [split for name in splits if (split := split_of(name)) is not None]
    notes = [*table.notes]
    if labelled and not columns["label"]:
        notes.append("the label column is empty: the images have no labels")
    notes += remarks_on(columns["label"] or []) + remarks_on(columns["group"] or [], "group")
    if extra := [name or "one without a name" for name in table.header if name not in COLUMNS]:
        notes.append(f"columns that are not used: {some_names(extra)}")
    return ImageSet(
        ids,
        sources,
        labels=columns["label"],
        groups=columns["group"],
        splits=splits,
        root=path.parent,
        failures=failures_of(ids, sources),
        notes=notes,
    )


def named_files(
    path: Path, names: Sequence[str], numbers: Sequence[int], allow_outside: bool, *, unit: str = "line"
) -> tuple[list[str], list[Path | StoredFile]]:
    """Find the files that a table or an array names, and their ids: relative to its folder where they lie in it.

    A URL stands for itself: who writes one means a place outside of the folder. Whether there is a file is asked when
    it is read.

    Parameters
    ----------
    path : Path
        The file that has the names, which are relative to its folder.
    names : sequence of str
    numbers : sequence of int
        Where in the file each name stands, for errors.
    allow_outside : bool
        As for `load_images`.
    unit : {"line", "entry"}
        What is numbered: lines of a table, or entries of an array.

    Raises
    ------
    ImagesError
        Files are not there, lie outside of the folder, or are named twice.
    """
    root = os.path.realpath(path.parent)
    outside: list[tuple[int, str]] = []
    missing: list[tuple[int, str]] = []
    twice: list[tuple[int, str]] = []
    ids: list[str] = []
    sources: list[Path | StoredFile] = []
    first: dict[str, int] = {}
    folders: dict[str, str] = {}
    listings: dict[str, dict[str, list[str]]] = {}
    members = ArchiveMembers(os.fspath(path.parent))
    for number, given in zip(numbers, names, strict=True):
        if is_url(url := as_path_or_url(without_csv_mark(given.strip()))):
            member = members.find(url)
            if member is not None and not member.archive.is_remote:
                archive = os.path.realpath(member.archive.path)
                outside += [(number, url)] * (not _is_inside(archive, root))
            file = RemoteFile.of(url) if member is None else member
            if (place := public_url(url)) in first:
                twice.append((number, f"{place} (as in {unit} {first[place]})"))
            first.setdefault(place, number)
            ids.append(as_text(place))
            sources.append(file)
            continue
        name = next((name for name in _spellings(given) if _is_there(path.parent, name)), None)
        if name is None:
            spellings = (as_on_disk(name, os.fspath(path.parent), listings) for name in _spellings(given))
            name = next((name for name in spellings if _is_there(path.parent, name)), None)
        if name is None:
            missing.append((number, without_csv_mark(given.strip())))
            continue
        full = os.path.join(path.parent, name)
        folder, last = os.path.split(full)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        place = os.path.join(folders[folder], last)  # a link in its real folder: links may have the same target
        if not _is_inside(os.path.realpath(place) if os.path.islink(place) else place, root):
            outside.append((number, name))
        if place in first:
            twice.append((number, f"{name} (as in {unit} {first[place]})"))
        first.setdefault(place, number)
        if ".." in PurePosixPath(name).parts or os.path.isabs(name):
            name = os.path.relpath(place, root) if _is_inside(place, root) else place
        ids.append(as_text(PurePosixPath(name).as_posix()))
        sources.append(Path(full))
    kind = "array" if unit == "entry" else "table"
    if not allow_outside:
        advice = f"move the {kind} up, or allow it: {parameter('allow_outside', True, of='load_images')}"
        refuse_entries(path, outside, f"outside of the folder of the {kind}", advice, unit=unit)
    advice = f"paths are relative to the folder of the {kind}"
    if any("\\" in name for _, name in missing):
        advice += " (write / and not \\)"
    refuse_entries(path, missing, "no such file", advice, unit=unit)
    refuse_entries(path, twice, "the same file again", "keep one row for each image", unit=unit)
    return ids, sources


def remote_files(
    table: RemoteFile, names: Sequence[str], numbers: Sequence[int], allow_outside: bool
) -> tuple[list[str], list[Path | StoredFile]]:
    """Return the files that a table on the network names, and their ids, as `named_files` does of one on the disk.

    Parameters
    ----------
    table : RemoteFile
        Names are relative to its folder, or URLs. What lies on this machine is never read.
    names, numbers, allow_outside
        As for `named_files`.

    Raises
    ------
    ImagesError
        Files lie outside of the folder, or are named twice.
    """
    ids: list[str] = []
    sources: list[Path | StoredFile] = []
    empty, local, outside, twice = [], [], [], []
    first: dict[str, int] = {}
    members = ArchiveMembers()
    for number, given in zip(numbers, names, strict=True):
        name = without_csv_mark(given.strip())
        if is_url(name):
            chain = chained(name)
            if not is_url(as_path_or_url(name) if chain is None else chain[1]):
                local.append((number, name))
                continue
            file: StoredFile = members.find(name) or RemoteFile.of(name)
            name = public_url(name).removeprefix(f"{table.parent.rstrip('/')}/")
        else:
            empty += [(number, name)] * (not name)
            name = posixpath.normpath(name.replace("\\", "/"))
            outside += [(number, name)] * (name.startswith(("../", "/")) or name == "..")
            file = table.beside(name)
        if name in first:
            twice.append((number, f"{name} (as in line {first[name]})"))
        first.setdefault(name, number)
        ids.append(as_text(name))
        sources.append(file)
    refuse_entries(table, empty, "the path is empty", "fill it, or take the row out")
    refuse_entries(table, local, "a file of this machine, in a table that is not", "write the URL of the file")
    if not allow_outside:
        advice = f"move the table up, write URLs, or allow it: {parameter('allow_outside', True, of='load_images')}"
        refuse_entries(table, outside, "outside of the folder of the table", advice)
    refuse_entries(table, twice, "the same file again", "keep one row for each image")
    return ids, sources


def _spellings(name: str) -> Iterator[str]:
    """Yield a name as it is; without spaces around it and the mark of `for_csv`; as a URI; with Windows' separators."""
    yield name
    yield (plain := without_csv_mark(name.strip()))
    if plain.lower().startswith("file:"):
        yield (plain := as_path_or_url(plain))
    if "\\" in plain:
        yield plain.replace("\\", "/")


def _is_there(folder: Path, name: str) -> bool:
    """Whether a name is that of something other than a folder."""
    full = os.path.join(folder, name)
    return bool(name) and "\0" not in name and os.path.exists(full) and not os.path.isdir(full)


def _is_inside(place: str, root: str) -> bool:
    return place.startswith(root if root.endswith(os.sep) else root + os.sep)


def _column(path: Path | RemoteFile, name: str, table: Table) -> list[str] | None:
    """Return the cells of a column, or nothing where it is missing or empty from top to bottom."""
    if name not in table.header:
        return None
    values = [value.strip() for value in table.column(name)]
    if not any(values):
        return None
    blank = [(line, "") for line, value in zip(table.lines, values, strict=True) if not value]
    refuse_entries(path, blank, f"the {name} is empty", f"fill the {name} of every row, or of none")
    return values
