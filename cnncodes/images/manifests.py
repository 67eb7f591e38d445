"""Images that a table names: CSV or TSV with the columns path,label[,group][,split]."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from cnncodes.display import without_csv_mark
from cnncodes.errors import parameter
from cnncodes.images.files import as_on_disk, as_text, failures_of, refuse_entries, some_names
from cnncodes.images.image_set import ImageSet
from cnncodes.images.labels import remarks_on
from cnncodes.images.tables import COLUMNS, SEPARATORS, Table, read_table
from cnncodes.vocabulary import SPLITS, split_of

__all__ = ["MANIFESTS", "from_manifest", "named_files"]

MANIFESTS = tuple(SEPARATORS)
REMOTE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def from_manifest(path: Path, labelled: bool, allow_outside: bool) -> ImageSet:
    """Return the images that a table names.

    Parameters
    ----------
    path : Path
        A ``.csv`` or ``.tsv`` file.
    labelled, allow_outside : bool
        As for `load_images`.

    Raises
    ------
    ImagesError
        The table cannot be read, lacks a column, or has rows with a fault; the message names their lines.
    """
    table = read_table(path, list(COLUMNS)[: 1 + labelled])
    ids, paths = named_files(path, table.column("path"), table.lines, allow_outside)
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
        paths,
        labels=columns["label"],
        groups=columns["group"],
        splits=splits,
        root=path.parent,
        failures=failures_of(ids, paths),
        notes=notes,
    )


def named_files(
    path: Path, names: Sequence[str], numbers: Sequence[int], allow_outside: bool, *, unit: str = "line"
) -> tuple[list[str], list[Path]]:
    """Find the files that a table or an array names, and their ids: relative to its folder where they lie in it.

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
    outside, missing, twice = [], [], []
    ids: list[str] = []
    paths: list[Path] = []
    first: dict[str, int] = {}
    folders: dict[str, str] = {}
    listings: dict[str, dict[str, list[str]]] = {}
    for number, given in zip(numbers, names, strict=True):
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
        paths.append(Path(full))
    kind = "array" if unit == "entry" else "table"
    if not allow_outside:
        advice = f"move the {kind} up, or allow it: {parameter('allow_outside', True, of='load_images')}"
        refuse_entries(path, outside, f"outside of the folder of the {kind}", advice, unit=unit)
    advice = f"paths are relative to the folder of the {kind}"
    if any("\\" in name for _, name in missing):
        advice += " (write / and not \\)"
    if any(REMOTE.match(name) for _, name in missing):
        advice += ", and nothing is fetched from a network: fetch the files first"
    refuse_entries(path, missing, "no such file", advice, unit=unit)
    refuse_entries(path, twice, "the same file again", "keep one row for each image", unit=unit)
    return ids, paths


def _spellings(name: str) -> Iterator[str]:
    """Yield a name as it is; without spaces around it and the mark of `for_csv`; as a URI; with Windows' separators."""
    yield name
    yield (plain := without_csv_mark(name.strip()))
    if plain.lower().startswith("file:"):
        yield (plain := unquote(urlsplit(plain).path))
    if "\\" in plain:
        yield plain.replace("\\", "/")


def _is_there(folder: Path, name: str) -> bool:
    """Whether a name is that of something other than a folder."""
    full = os.path.join(folder, name)
    return bool(name) and "\0" not in name and os.path.exists(full) and not os.path.isdir(full)


def _is_inside(place: str, root: str) -> bool:
    return place.startswith(root if root.endswith(os.sep) else root + os.sep)


def _column(path: Path, name: str, table: Table) -> list[str] | None:
    """Return the cells of a column, or nothing where it is missing or empty from top to bottom."""
    if name not in table.header:
        return None
    values = [value.strip() for value in table.column(name)]
    if not any(values):
        return None
    blank = [(line, "") for line, value in zip(table.lines, values, strict=True) if not value]
    refuse_entries(path, blank, f"the {name} is empty", f"fill the {name} of every row, or of none")
    return values
