"""How figures and foreign text are written for people: percentages, intervals; text for terminals, HTML and CSV.

Names of files, labels and classes, messages of libraries and whatever else files hold come from anyone. They reach a
terminal by `for_terminal`, a page by `for_html`, a CSV file by `for_csv` and JSON by `for_json`, and in no other way.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = [
    "FORMULA",
    "for_csv",
    "for_html",
    "for_json",
    "for_terminal",
    "html_table",
    "interval",
    "percent",
    "points",
    "shortened",
    "without_csv_mark",
    "would_look",
]

MAX_NAME = 100  # characters of a name in an error or a note
JOINERS = "\u200c\u200d"  # without them some scripts and emojis are not what they are meant to be
# What a spreadsheet computes: whatever begins with =; what begins with another sign, if it calls something
FORMULA = re.compile(r"\s*(=.|[-+@].*[(|!])", re.DOTALL)


def percent(share: float, *, space: str = " ") -> str:
    """Return a share, from 0 to 1, as a percentage.

    Parameters
    ----------
    share : float
        From 0 to 1.
    space : str, default=" "
        Text before the sign; pages take a space at which no line breaks.

    Examples
    --------
    >>> percent(0.9126)
    '91.3 %'
    """
    return f"{100 * share:.1f}{space}%"


def interval(low: float, high: float, *, space: str = " ") -> str:
    """Return an interval of shares, from 0 to 1, as percentages.

    Parameters
    ----------
    low, high : float
        From 0 to 1.
    space : str, default=" "
        As for `percent`.

    Examples
    --------
    >>> interval(0.88, 0.942)
    '88.0 to 94.2 %'
    """
    return f"{100 * low:.1f} to {percent(high, space=space)}"


def points(difference: float) -> str:
    """Return a difference of two shares in percentage points, with its sign.

    Examples
    --------
    >>> points(-0.0123)
    '-1.2'
    """
    return f"{round(100 * difference, 1) + 0.0:+.1f}"  # -0.0 + 0.0 is 0.0


def would_look(otherwise: float, share: float) -> str:
    """Say what a share would look like otherwise; shares that are the same when printed are not compared.

    Examples
    --------
    >>> would_look(0.96, 0.9), would_look(0.9999, 1.0)
    ('look like 96.0 %, and not 90.0 %', 'look the same, 100.0 %')
    """
    text = percent(share)
    return f"look the same, {text}" if percent(otherwise) == text else f"look like {percent(otherwise)}, and not {text}"


def shortened(text: str, most: int = MAX_NAME) -> str:
    """Return text of at most `most` characters: of a longer one the beginning and the end.

    Examples
    --------
    >>> shortened("photographs/of/cats/1.png", 15), shortened("1.png")
    ('photogr…s/1.png', '1.png')
    """
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - 1 - most // 2) :]}"


def for_terminal(text: str) -> str:
    r"""Return foreign text for a terminal: on one line, with escapes in place of characters that are not seen.

    These are control characters, by which text could move the cursor, change colours or forge a line; those that
    reorder text; surrogates; and other invisible ones. Spaces of every width stay.

    Examples
    --------
    >>> print(for_terminal("café \x1b[31m\r\n\u202egnp.exe"))
    café \x1b[31m\r\n\u202egnp.exe
    """
    return text if text.isprintable() else "".join(char if _is_seen(char) else repr(char)[1:-1] for char in text)


def for_html(text: str) -> str:
    r"""Return foreign text for HTML, as an element or a quoted attribute holds it; lines stay lines.

    Examples
    --------
    >>> print(for_html("<b>\u202e"))
    &lt;b&gt;\u202e
    """
    return escape("\n".join(map(for_terminal, text.split("\n"))))


def for_csv(text: str) -> str:
    """Return foreign text for a cell of a CSV file: as it is, but with an apostrophe before a formula.

    A spreadsheet would compute the formula, and could so load or send something.

    Examples
    --------
    >>> for_csv("=HYPERLINK(1)"), for_csv("-1"), for_csv("=")
    ("'=HYPERLINK(1)", '-1', '=')
    """
    return f"'{text}" if FORMULA.match(text) else text


def without_csv_mark(text: str) -> str:
    """Return text as it was before `for_csv`.

    Examples
    --------
    >>> without_csv_mark("'=HYPERLINK(1)"), without_csv_mark("'tis")
    ('=HYPERLINK(1)', "'tis")
    """
    return text[1:] if text[:1] == "'" and FORMULA.match(text[1:]) else text


def for_json(value: Any) -> str:
    r"""Return a value as JSON that a terminal may show, which reads back as the value.

    Examples
    --------
    >>> print(for_json(["café \u202e"]))
    [
      "café \u202e"
    ]
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r"[^\n -~]", lambda match: match[0] if _is_seen(match[0]) else json.dumps(match[0])[1:-1], text)


def _is_seen(char: str) -> bool:
    return char.isprintable() or char in JOINERS or unicodedata.category(char) == "Zs"


def html_table(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Return an HTML table; the first column holds the headers of the rows.

    Parameters
    ----------
    headers : sequence of str
        Headers of the columns.
    rows : iterable of sequences
        Cells of each row; they are converted to text and escaped.
    caption : str, default=""
        Caption of the table; an empty one is left out.

    Examples
    --------
    >>> html_table(["a", "b"], [["<x>", 1]])
    '<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><th>&lt;x&gt;</th><td>1</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{for_html(header)}</th>" for header in headers)
    body = "".join(
        f"<tr><th>{for_html(str(row[0]))}</th>{''.join(f'<td>{for_html(str(cell))}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    title = f"<caption>{for_html(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
