"""Images that a table names: CSV or TSV with the columns path,label[,group][,split]."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cnncodes.display import without_csv_mark
from cnncodes.errors import ImagesError, nearest, parameter
from cnncodes.images.files import MAX_EXAMPLES, as_text, failures_of, reason_of, some_names
from cnncodes.images.image_set import ImageSet
from cnncodes.images.labels import remarks_on
from cnncodes.vocabulary import SPLITS, split_of

__all__ = ["MANIFESTS", "from_manifest"]

MANIFESTS = {".csv": ",", ".tsv": "\t"}
COLUMNS = ("path", "label", "group", "split")


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
    header, rows = _read_table(path, MANIFESTS[path.suffix.lower()])
    for name in COLUMNS[: 1 + labelled]:
        if name not in header:
            hint = nearest(name, header)
            if len(header) == 1 and (other := re.search("[;\t,|]", header[0])):
                hint = f" It seems to be separated by {other[0]!r}: save it with commas as .csv, or with tabs as .tsv."
            raise ImagesError(
                f"{path}: no column '{name}', only {', '.join(map(repr, header))}.{hint} "
                "Expected path,label[,group][,split]"
            )
    names = [row[header.index("path")] for _, row in rows]
    ids, paths = _resolve(path, names, [line for line, _ in rows], allow_outside)
    columns = {name: _column(path, name, header, rows) for name in COLUMNS[1:]}
    if splits := columns["split"]:
        wrong = [(line, name) for (line, _), name in zip(rows, splits, strict=True) if split_of(name) is None]
        _refuse(path, wrong, "no such split", f"write one of {', '.join(SPLITS)}")
        splits = [split for name in splits if (split := split_of(name)) is not None]
    notes = ["the label column is empty: the images have no labels"] if labelled and not columns["label"] else []
    notes += remarks_on(columns["label"] or []) + remarks_on(columns["group"] or [], "group")
    if extra := [name for name in header if name not in COLUMNS]:
        notes.append(f"columns that are not used: {', '.join(extra)}")
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


def _read_table(path: Path, delimiter: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header in small letters, and (line number, cells) of each row that is not blank."""
    rows: list[tuple[int, list[str]]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            line = 1
            for row in reader:
                if any(cell.strip() for cell in row):
                    rows.append((line, row))
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ImagesError(f"{path}: not UTF-8 text ({error.reason}); save it as CSV UTF-8") from error
    except csv.Error as error:
        raise ImagesError(f"{path}, line {line}: not a table ({error}); check the quotation marks") from error
    except OSError as error:
        raise ImagesError(f"{path}: {reason_of(error)}") from error
    if not rows:
        raise ImagesError(f"{path}: it is empty; expected columns path,label[,group][,split]")
    header = [name.strip().lower() for name in rows.pop(0)[1]]
    if twice := [name for name, n in Counter(header).items() if n > 1]:
        raise ImagesError(f"{path}: several columns are called {twice[0]!r}; rename all but one")
    if not rows:
        raise ImagesError(f"{path}: there are no rows below the header")
    ragged = [(line, f"{len(row)} cells") for line, row in rows if len(row) != len(header)]
    _refuse(path, ragged, f"the header has {len(header)} columns, the row has", "quote what contains the separator")
    return header, rows


def _resolve(
    path: Path, names: Sequence[str], lines: Sequence[int], allow_outside: bool
) -> tuple[list[str], list[Path]]:
    """Find the files that a manifest names, and their ids: relative to its folder where they lie in it."""
    root = os.path.realpath(path.parent)
    outside, missing, twice = [], [], []
    ids: list[str] = []
    paths: list[Path] = []
    first: dict[str, int] = {}
    folders: dict[str, str] = {}
    for line, name in zip(lines, names, strict=True):
        full = os.path.join(path.parent, name)
        if not os.path.exists(full):
            full = os.path.join(path.parent, name := without_csv_mark(name.strip()))
        if not name or "\0" in name or not os.path.exists(full) or os.path.isdir(full):
            missing.append((line, name))
            continue
        folder, last = os.path.split(full)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        place = os.path.join(folders[folder], last)  # a link in its real folder: links may have the same target
        if not _is_inside(os.path.realpath(place) if os.path.islink(place) else place, root):
            outside.append((line, name))
        if place in first:
            twice.append((line, f"{name} (as in line {first[place]})"))
        first.setdefault(place, line)
        if ".." in PurePosixPath(name).parts or os.path.isabs(name):
            name = os.path.relpath(place, root) if _is_inside(place, root) else place
        ids.append(as_text(PurePosixPath(name).as_posix()))
        paths.append(Path(full))
    if not allow_outside:
        _refuse(
            path,
            outside,
            "outside of the folder of the table",
            f"move the table up, or allow it: {parameter('allow_outside', True, of='load_images')}",
        )
    slash = " (write / and not \\)" if any("\\" in name for _, name in missing) else ""
    _refuse(path, missing, "no such file", f"paths are relative to the folder of the table{slash}")
    _refuse(path, twice, "the same file again", "keep one row for each image")
    return ids, paths


def _is_inside(place: str, root: str) -> bool:
    return place.startswith(root if root.endswith(os.sep) else root + os.sep)


def _column(path: Path, name: str, header: list[str], rows: Sequence[tuple[int, list[str]]]) -> list[str] | None:
    """Return the cells of a column, or nothing where it is missing or empty from top to bottom."""
    if name not in header:
        return None
    values = [row[header.index(name)].strip() for _, row in rows]
    if not any(values):
        return None
    blank = [(line, "") for (line, _), value in zip(rows, values, strict=True) if not value]
    _refuse(path, blank, f"the {name} is empty", f"fill the {name} of every row, or of none")
    return values


def _refuse(path: Path, rows: Sequence[tuple[int, str]], what: str, advice: str) -> None:
    """Raise one error that names the lines of all rows with a fault."""
    if not rows:
        return
    lines = some_names([str(line) for line, _ in rows])
    examples = some_names([text for _, text in rows[:MAX_EXAMPLES] if text])
    raise ImagesError(
        f"{path}, line{'s' if len(rows) > 1 else ''} {lines}: {what}{f': {examples}' if examples else ''}; {advice}"
    )
