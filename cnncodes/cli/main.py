"""The command line: the group of the commands, and how each of them ends."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

import cnncodes
from cnncodes.cli.advise import advise
from cnncodes.cli.audit import audit
from cnncodes.cli.backbones import backbones
from cnncodes.cli.compare import compare
from cnncodes.cli.demo import demo
from cnncodes.cli.evaluate import evaluate
from cnncodes.cli.export import export
from cnncodes.cli.extract import extract
from cnncodes.cli.finetune import finetune
from cnncodes.cli.fit import fit
from cnncodes.cli.info import info
from cnncodes.cli.layers import layers
from cnncodes.cli.merge import merge
from cnncodes.cli.options import EXIT_ERROR, EXIT_INTERRUPTED
from cnncodes.cli.output import print_message, stderr
from cnncodes.cli.predict import predict
from cnncodes.cli.report import report
from cnncodes.cli.similar import similar
from cnncodes.cli.verify import verify
from cnncodes.display import for_terminal
from cnncodes.errors import CnnCodesError
from cnncodes.system.interrupt import was_interrupted
from cnncodes.system.memory import is_shortage, shortage


class NamedStream:
    """A stream whose errors carry its name, as those of files do."""

    def __init__(self, stream: Any, name: str) -> None:
        self.stream, self.name = stream, name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.stream, attribute)

    def write(self, text: str) -> int:
        with self._named():
            return self.stream.write(text)

    def flush(self) -> None:
        with self._named():
            self.stream.flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self.name
            raise


class LogHandler(logging.StreamHandler):
    """Prints what the library logs, on a terminal above the bar that is drawn meanwhile."""

    def format(self, record: logging.LogRecord) -> str:
        return for_terminal(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        if stderr.is_terminal:
            print_message(self.format(record))
        else:
            super().emit(record)


class Group(click.Group):
    """Commands in the order of the work; a `CnnCodesError` is one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError):  # not every replacement of a stream has this method
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        named = sys.stdout and NamedStream(sys.stdout, "standard output")
        sys.stdout = named  # type: ignore[assignment]
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            place = "" if error.filename is None else f"{error.filename}: "
            print_message(f"error: {place}{error.strerror or str(error) or type(error).__name__}")
            sys.exit(EXIT_ERROR)
        finally:
            if named and sys.stdout is named:  # after a broken pipe, click leaves another one there
                sys.stdout = named.stream

    def invoke(self, ctx: click.Context) -> Any:
        try:
            _require_working_folder()
            with _shortage_explained():
                result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result
        except click.ClickException as error:
            error.message = for_terminal(error.message)  # type: ignore[misc]  # click calls it final
            raise
        except CnnCodesError as error:
            print_message(f"error: {error}", style="red")
            ctx.exit(EXIT_ERROR)
        except click.exceptions.Exit:  # a RuntimeError, too
            raise
        except (KeyboardInterrupt, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not was_interrupted():  # joblib raises one if it is just starting
                raise
            print_message("interrupted")
            ctx.exit(EXIT_INTERRUPTED)


@contextlib.contextmanager
def _shortage_explained() -> Iterator[None]:
    """Say in one line that there is no memory, in whichever way a library says it."""
    try:
        yield
    except CnnCodesError as error:
        if error.__cause__ is None or not is_shortage(error.__cause__):
            raise
        raise CnnCodesError(shortage(error.__cause__)) from error  # no file is to blame
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if isinstance(error, click.exceptions.Exit) or was_interrupted() or not is_shortage(error):
            raise
        raise CnnCodesError(shortage(error)) from error


def _require_working_folder() -> None:
    """Raise if the working folder has been removed: libraries would end the process without a word."""
    try:
        os.getcwd()
    except OSError as error:
        raise CnnCodesError(f"the working folder cannot be used ({error.strerror}); change to another one") from error


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(cnncodes.__version__, "-V", "--version", prog_name="cnncodes")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is chosen and why.")
def main(verbose: bool) -> None:
    """A handful of labelled images, a frozen CNN, and a linear classifier whose score can be believed.

    Start with `cnncodes demo`, or with a folder that has one folder of images per class:

    \b
      cnncodes extract photos/     the images, once through the network  → codes.h5
      cnncodes fit --clf svm       a classifier on the codes, in seconds → model.safetensors
      cnncodes predict new/        labels of new images                  → standard output
    """
    level = logging.INFO if verbose else logging.WARNING
    source = "%(name)s" if verbose else "note"
    logging.basicConfig(level=level, format=f"{source}: %(message)s", handlers=[LogHandler()])


# In the order of the work
for command in (
    demo,
    extract,
    fit,
    finetune,
    evaluate,
    predict,
    export,
    compare,
    advise,
    audit,
    report,
    similar,
    info,
    verify,
    merge,
    backbones,
    layers,
):
    main.add_command(command)
