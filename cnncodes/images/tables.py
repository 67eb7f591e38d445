"""Tables as spreadsheets and programs write them: their encoding, their separator, their header."""

from __future__ import annotations

import csv
import io
import re
import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cnncodes.errors import ImagesError, nearest
from cnncodes.images.files import IMAGE_SUFFIXES, reason_of, refuse_entries, some_names
from cnncodes.images.network import listing_errors
from cnncodes.images.remote import RemoteFile
from cnncodes.vocabulary import split_of

__all__ = ["COLUMNS", "SEPARATORS", "Table", "read_table"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}  # by which a header is read first
OTHER_SEPARATORS = (";", "\t", ",", "|")
COLUMNS = {  # each with what others call it
    "path": "file filename file_name filepath file_path image image_path image_name image_file imagepath img img_path",
    "label": "labels class class_name classname category target",
    "group": "groups group_id",
    "split": "set subset partition",
}
REQUIRED = ("path", "label")
BYTE_ORDER_MARKS = {  # the longer ones first
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
WORKBOOKS = (b"PK\3\4", b"\xd0\xcf\x11\xe0")  # how .xlsx and .ods files begin, and .xls
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[^\S\r\n]*(?=[\r\n])', re.IGNORECASE)  # as Excel reads and writes it
BLANK = string.whitespace + "\xa0\ufeff\u200b"  # around names of columns: byte order marks of pasted files, too
MAX_NAMES_TO_COMPARE = 1000  # with the name of a column that is missing

Rows = list[tuple[int, list[str]]]  # the number of the first line of each row, and its cells


@dataclass
class Table:
    """The cells of a table.

    Attributes
    ----------
    header : list of str
        Names of the columns in small letters; those of `COLUMNS` whatever the file calls them.
    rows : list of (int, list of str)
        Number of the first line of each row, counted from 1, and its cells, as many as there are columns.
    notes : list of str
        Which columns were renamed.
    """

    header: list[str]
    rows: Rows
    notes: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[int]:
        """Number of the first line of each row."""
        return [line for line, _ in self.rows]

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        at = self.header.index(name)
        return [cells[at] if at < len(cells) else "" for _, cells in self.rows]


def read_table(path: Path | RemoteFile, required: Iterable[str] = REQUIRED) -> Table:
    """Read a table with a header.

    The separator is the one by which the header has a column for paths: comma, semicolon, tab or ``|``; a first line
    ``sep=;`` says which. Text is UTF-8, or UTF-16 as Excel writes it; blank lines and empty columns at the end are
    passed over.

    Parameters
    ----------
    path : Path or RemoteFile
        A file with one of the suffixes of `SEPARATORS`.
    required : iterable of str
        Columns that must be there, of `COLUMNS`.

    Raises
    ------
    ImagesError
        The file is no such table; the message says what to do.
    """
    text = _text(path)
    told = SEPARATOR_LINE.match(text)
    rows = _rows(path, text, told[1] if told else _separator(path, text), skipped=int(told is not None))
    if not rows:
        raise ImagesError(f"{path}: it is empty; expected columns path,label[,group][,split]")
    table = Table([name.strip(BLANK).lower() for name in rows.pop(0)[1]], rows)
    _drop_empty_columns(table)
    if rows and all(len(cells) == len(table.header) + 1 and cells[0].isdecimal() for _, cells in rows):
        table.header.insert(0, "")  # R numbers rows in a column that its header lacks
    _name_columns(path, table)
    for name in required:
        if name not in table.header:
            raise ImagesError(f"{path}: {_lacks(name, table)} Expected path,label[,group][,split]")
    if twice := [name for name, n in Counter(table.header).items() if n > 1 and name]:
        raise ImagesError(f"{path}: several columns are called {some_names(twice[:1])!r}; rename all but one")
    if not rows:
        raise ImagesError(f"{path}: there are no rows below the header")
    ragged = [(line, f"{len(cells)} cells") for line, cells in rows if len(cells) != len(table.header)]
    what = f"the header has {len(table.header)} columns, the row has"
    refuse_entries(path, ragged, what, "quote what contains the separator")
    return table


def _text(path: Path | RemoteFile) -> str:
    try:
        with listing_errors(str(path)):
            data = path.read_bytes()
    except OSError as error:
        raise ImagesError(f"{path}: {reason_of(error)}") from error
    if data.startswith(WORKBOOKS):
        raise ImagesError(f"{path}: a workbook of a spreadsheet program; save it as CSV UTF-8 from there")
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and len(data) > 3 and 0 in data[:2] and data[0] != data[1]:
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"  # without a mark
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = error.encoding.upper()
        line = len(re.split(rb"\r\n|\r|\n", data[: error.start])) if encoding.startswith("utf-8") else 0
        where = f"{path}, line {line}" if line else str(path)
        raise ImagesError(f"{where}: not {name} text ({error.reason}); save it as CSV UTF-8") from error


def _separator(path: Path | RemoteFile, text: str) -> str:
    """Return the separator by which the header has a column for paths; where none has, one that it holds."""
    usual = SEPARATORS[path.suffix.lower()]
    header = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")
    for separator in (usual, *OTHER_SEPARATORS):
        try:
            names = next(csv.reader([header], delimiter=separator), [])
        except csv.Error:
            continue
        if any(_known(name) == "path" for name in names):
            return separator
    return next((separator for separator in (usual, *OTHER_SEPARATORS) if separator in header), usual)


def _known(name: str) -> str | None:
    """Return which of `COLUMNS` a name means."""
    word = re.sub(r"[\s-]+", "_", name.strip(BLANK).lower())
    return next((known for known, others in COLUMNS.items() if word == known or word in others.split()), None)


def _rows(path: Path | RemoteFile, text: str, separator: str, *, skipped: int) -> Rows:
    """Return the rows that are not blank, without the first lines that are skipped."""
    try:
        rows = _parsed(text, separator, skipped)
        even = len({len(cells) for _, cells in rows}) < 2
    except csv.Error:
        even = False
    if not even:  # perhaps there are spaces beside quotation marks
        try:
            spaced = _parsed(text, separator, skipped, spaced=True)
        except csv.Error as error:
            line = error.args[1] if len(error.args) > 1 else 1
            raise ImagesError(
                f"{path}, line {line}: not a table ({error.args[0]}); check the quotation marks"
            ) from error
        if len({len(cells) for _, cells in spaced}) < 2:
            return spaced
    return rows


def _parsed(text: str, separator: str, skipped: int, *, spaced: bool = False) -> Rows:
    if spaced:  # behind a quotation mark, too
        text = re.sub(f'" +(?=[{re.escape(separator)}\r\n]|$)', '"', text)
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=separator, strict=True, skipinitialspace=spaced)
    rows: Rows = []
    line = 1
    try:
        for number, cells in enumerate(reader):
            if number >= skipped and any(cell.strip() for cell in cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(str(error), line) from error
    return rows


def _drop_empty_columns(table: Table) -> None:
    """Cut cells without a name and content at the end of the header and of rows."""
    width = len(table.header)
    while (
        width
        and not table.header[width - 1]
        and not any("".join(cells[width - 1 :]).strip() for _, cells in table.rows)
    ):
        width -= 1
    del table.header[width:]
    for _, cells in table.rows:
        if not "".join(cells[width:]).strip():
            del cells[width:]


def _name_columns(path: Path | RemoteFile, table: Table) -> None:
    """Call columns as they are called here, where the table has other words for them."""
    for known in COLUMNS:
        if known in table.header:
            continue
        others = [name for name in table.header if _known(name) == known]
        if known == "split" and not all(split_of(cell) for name in others for cell in table.column(name)):
            continue  # a set, or a part, of another kind
        if len(others) > 1:
            raise ImagesError(f"{path}: the columns {some_names(others)} may all be the {known}; call one {known!r}")
        if others:
            table.header[table.header.index(others[0])] = known
            table.notes.append(f"the column {others[0]!r} is taken as {known!r}")


def _lacks(name: str, table: Table) -> str:
    """Say that a column is missing, and what there is."""
    if any(cell.strip().lower().endswith(tuple(IMAGE_SUFFIXES)) for cell in table.header):
        return f"no header, but {some_names(table.header)}: write path,label above the first row."
    quoted = [repr(column) for column in table.header]
    return f"no column {name!r}, only {some_names(quoted)}.{nearest(name, table.header[:MAX_NAMES_TO_COMPARE])}"
