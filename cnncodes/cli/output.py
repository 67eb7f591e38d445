"""What the commands show: progress and notes on stderr, tables and JSON on stdout.

Commands print by these functions alone, which let no foreign text act on the terminal.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table

from cnncodes.display import for_csv, for_json, for_terminal
from cnncodes.errors import CnnCodesError
from cnncodes.system.files import refuse_foreign, replacing, writing_text

__all__ = [
    "check_plot",
    "input_files",
    "open_output",
    "plain",
    "print_json",
    "print_line",
    "print_message",
    "print_notes",
    "print_table",
    "progress_bar",
    "quoted",
    "save_plot",
    "short",
    "stderr",
    "waiting",
    "working",
    "write_csv",
]

PLOT_MARK = "cnncodes plot"  # marks a plot as ours, in the metadata of its file
# Metadata with the mark, and without the time, by format; other formats have none
PLOT_METADATA = {
    "png": {"Software": PLOT_MARK},
    "svg": {"Creator": PLOT_MARK, "Date": None},
    "pdf": {"Creator": PLOT_MARK, "CreationDate": None},
}

MAX_WIDTH = 1 << 24  # columns: no table is wider
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}  # text is text

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show that something slow has begun."""
    if stderr.is_terminal:
        print_message(f"{text} …", style="dim")
    yield


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Show that work is going on, and for how long, if nobody knows when it ends."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True) as spinner:
        spinner.add_task(text, total=None)
        yield


class Bar:
    """A progress callback that draws a bar, beside which a few words can be shown."""

    def __init__(self, bar: Any, text: str, unit: str) -> None:
        self.bar, self.unit = bar, unit
        self.task = bar.add_task(text, total=None, rate="", failed="", words="")

    def __call__(self, done: int, total: int, failed: int) -> None:
        """Show how much is done, as a `Progress`."""
        speed = self.bar.tasks[self.task].speed
        self.bar.update(
            self.task,
            completed=done,
            total=total,
            rate=f"{speed:.{speed < 10:d}f} {self.unit}/s" if speed else "",
            failed=f"{failed} failed" if failed else "",
        )

    def say(self, words: str) -> None:
        """Show words after the bar, in place of those before."""
        self.bar.update(self.task, words=for_terminal(words))


@contextlib.contextmanager
def progress_bar(text: str, unit: str = "images") -> Iterator[Bar]:
    """Give a progress callback that draws a bar on stderr, with the rate, the time so far and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True) as bar:
        yield Bar(bar, text, unit)


def print_line(text: str = "", **style: Any) -> None:
    """Print one line on stdout."""
    click.secho(for_terminal(text), **style)


def print_message(text: str, *, style: str | None = None) -> None:
    """Print one line on stderr."""
    stderr.print(for_terminal(text), style=style, **PLAIN)


def print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print_message(f"note: {note}")


def print_json(value: Any) -> None:
    click.echo(for_json(value))


def write_csv(stream: IO[str], columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write a table as CSV; only a terminal is shown escapes in place of characters that act on it."""
    escape = for_terminal if stream.isatty() else for_csv
    for row in (dict(zip(columns, columns, strict=True)), *rows):
        line = io.StringIO()
        cells = [escape(value) if isinstance(value := row[name], str) else value for name in columns]
        csv.writer(line).writerow(cells)  # whose lines end with \r\n, or a cell with \r would not be quoted
        stream.write(line.getvalue().removesuffix("\r\n") + "\n")


def quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout, never cut to the width of the terminal: a pipe has none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(for_terminal(header), no_wrap=True)
    for row in rows:
        table.add_row(*map(for_terminal, row))
    width = Console(width=MAX_WIDTH, **PLAIN).measure(table).maximum  # wide enough for all columns
    Console(width=width, **PLAIN).print(table)


@contextlib.contextmanager
def open_output(path: str | None, kind: str, is_ours: Callable[[Path], bool], **checks: Any) -> Iterator[IO[str]]:
    """Give stdout, or a file that appears under its name only when it is whole; see `refuse_foreign`."""
    if path is None:
        if sys.stdout is None:
            raise CnnCodesError("standard output is closed; name a file with -o")
        yield sys.stdout
        return
    if _is_terminal(path):
        with open(path, "w", encoding="utf-8") as terminal:
            yield terminal
        return
    refuse_foreign(path, kind, is_ours, **checks)
    with writing_text(Path(path)) as stream:
        yield stream


def _is_terminal(path: str) -> bool:
    """Whether a path is a terminal, which is shown escapes, and not a file."""
    with contextlib.suppress(OSError):
        if Path(path).is_char_device():
            with open(path, "wb", buffering=0) as stream:
                return stream.isatty()
    return False


def input_files(*places: Any) -> Iterator[Any]:
    """Yield these places, the archives that they mean, and the images that a table names: no output may replace one.

    A table is read only if an output is there already; see `refuse_foreign`.
    """
    yield from places
    from cnncodes.images.archive_names import archives_named
    from cnncodes.images.loading import load_images

    for place in places:
        if (archives := archives_named(place)) is not None:
            yield from archives.paths
        elif isinstance(place, str) and Path(place).suffix.lower() in (".csv", ".tsv") and Path(place).is_file():
            for source in load_images(place, labelled=False, allow_outside=True).sources:
                archive = getattr(source, "archive", None)
                yield source if archive is None else archive.path


def check_plot(path: str, **checks: Any) -> None:
    """Raise if a plot cannot be written to a path; called before the work, so that no time is lost."""
    from cnncodes.system.optional import require

    formats = require("matplotlib.backend_bases", "--plot").FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in formats:
        raise CnnCodesError(f"{path}: a plot is .png, .svg or .pdf; give the name such an ending")
    refuse_foreign(path, "a plot", _is_plot, **checks)


def _is_plot(path: Path) -> bool:
    return PLOT_MARK.encode() in path.read_bytes()


def save_plot(axes: Any, path: str) -> None:
    """Write the figure of matplotlib axes; the suffix says in which format."""
    from cnncodes.system.optional import require

    rc_context = require("matplotlib", "--plot").rc_context
    kind = Path(path).suffix[1:].lower()
    for text in axes.figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)  # a $ in a name is a dollar sign
    # Ids by a hash that is always the same: the same input gives the same bytes
    with rc_context({"svg.hashsalt": PLOT_MARK}), replacing(Path(path)) as partial:
        axes.figure.savefig(partial, dpi=150, format=kind, metadata=PLOT_METADATA.get(kind))


def plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def short(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.4f}"
