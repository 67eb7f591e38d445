"""How figures are written for people: percentages, intervals, differences, HTML tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_table", "interval", "percent", "points"]


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
    return f"{100 * difference:+.1f}"


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
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(
        f"<tr><th>{escape(str(row[0]))}</th>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
