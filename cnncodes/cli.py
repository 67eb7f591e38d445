"""The command line: each command parses, calls one library function, and renders what it returns."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table

import cnncodes
from cnncodes.errors import CnnCodesError

CODES, MODEL = "codes.h5", "model.safetensors"
EXIT_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 3, 130
FAILURES_SHOWN = 10

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class Group(click.Group):
    """Commands in the order of the work; a `CnnCodesError` is one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CnnCodesError as error:
            stderr.print(f"error: {error}", style="red", markup=False)
            ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt:
            stderr.print("interrupted")
            ctx.exit(EXIT_INTERRUPTED)


class Examples(click.Command):
    """A command whose help ends with examples, printed as they are to be typed."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def command(*examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command of `main` with its examples."""
    return main.command(cls=Examples, examples=examples, context_settings={"show_default": True})


option_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
option_model = click.option("-m", "--model", default=MODEL, show_default=True, help="Model file.")
option_device = click.option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]")
option_workers = click.option("--workers", type=click.IntRange(1), help="Threads.  [default: one a core]")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(cnncodes.__version__, "-V", "--version", prog_name="cnncodes")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is chosen and why.")
def main(verbose: bool) -> None:
    """A handful of labelled images, a frozen CNN, and a linear classifier whose score can be believed.

    Start with `cnncodes demo`, or with a folder that has one folder of images a class:

    \b
      cnncodes extract photos/     the images, once through the network  → codes.h5
      cnncodes fit --clf svm       a classifier on the codes, in seconds → model.safetensors
      cnncodes predict new/        labels of new images                  → standard output
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")


@command("cnncodes demo", "cnncodes demo --folder /tmp/try")
@click.option("--folder", default="cnncodes-demo", help="Where the files are written.")
@click.pass_context
def demo(ctx: click.Context, folder: str) -> None:
    """Extract, fit, evaluate, predict and compare on the sample that ships with cnncodes.

    Each step is printed as the command that it is, to be repeated with your own folder.
    """
    from cnncodes.shipped import SAMPLE, shipped_path

    sample = str(shipped_path(SAMPLE))
    Path(folder).mkdir(parents=True, exist_ok=True)
    codes, model = str(Path(folder, CODES)), str(Path(folder, MODEL))
    steps = [
        ["extract", sample, "-o", codes],
        ["fit", codes, "--clf", "svm", "-o", model],
        ["evaluate", codes, "--model", model],
        ["predict", str(Path(sample, "test", "Bag")), "--model", model, "-o", str(Path(folder, "predictions.csv"))],
        ["compare", codes, "--clf", "svm"],
    ]
    for number, step in enumerate(steps, 1):
        click.echo(click.style(f"\n[{number}/{len(steps)}] $ cnncodes {' '.join(map(_quoted, step))}", bold=True))
        main.main(step, standalone_mode=False, prog_name="cnncodes")
    click.echo(f"\nNow with your own images: cnncodes extract FOLDER, where FOLDER has one folder of images a class.")


@command(
    "cnncodes extract photos/",
    "cnncodes extract photos/ -o flowers.h5 --backbone resnet50 --layer layer3 --layer penultimate",
    "cnncodes extract images.csv --resize pad --image-size 320      # columns path,label[,group][,split]",
)
@click.argument("images")
@click.option("-o", "--out", default=CODES, help="Codes file; continued when it is there.")
@click.option("--backbone", help="Network, see `cnncodes backbones`.  [default: mobilenet_v2]")
@click.option("--weights", metavar="NAME|FILE", help="Weights by name, or a .pth, .pt or .safetensors file.")
@click.option(
    "--layer", "layers", multiple=True, help="Layer to keep; may be repeated.  [default: layer1…4, penultimate]"
)
@click.option("--pool", "pooling", help="avg, max, gem, grid2 or flatten: how a map becomes a vector.  [default: avg]")
@click.option("--image-size", type=click.IntRange(1), help="Side in pixels that enters the network.")
@click.option("--resize", type=click.Choice(["crop", "pad", "squash"]), help="How an image becomes square.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), help="[default: auto]")
@option_device
@click.option("--batch-size", type=click.IntRange(1), help="Images that go through the network together.")
@option_workers
@click.option("--allow-partial", is_flag=True, default=None, help="Accept a weights file that lacks parameters.")
@click.option("--strict", is_flag=True, help="Exit with 1 instead of 3 when some images failed.")
@option_json
@click.pass_context
def extract(
    ctx: click.Context, images: str, out: str, workers: int | None, strict: bool, as_json: bool, **settings: Any
) -> None:
    """Run IMAGES through a pretrained network, once, and keep its codes in a file.

    IMAGES is a folder of class folders, a folder with train/ and test/ folders of those, a CSV or TSV file, one image,
    or a .npy or .npz file. Repeating the command continues what was interrupted, and computes only what is new.
    """
    from cnncodes.extraction import extract as run

    settings["layers"] = settings["layers"] or None
    with _waiting("loading the network"), _progress("extracting") as progress:
        try:
            done = run(images, out, workers=workers, progress=progress, **settings)
        except KeyboardInterrupt:
            stderr.print(
                f"interrupted; what is done is kept. To continue: cnncodes {' '.join(map(_quoted, sys.argv[1:]))}"
            )
            ctx.exit(EXIT_INTERRUPTED)
    _notes(done.notes)
    for name, reason in list(done.failures.items())[:FAILURES_SHOWN]:
        stderr.print(f"failed: {_one_line(name)}: {reason}", markup=False)
    if done.failed > FAILURES_SHOWN:
        stderr.print(f"… and {done.failed - FAILURES_SHOWN} more: cnncodes info {_quoted(out)}", markup=False)
    if as_json:
        summary = {
            name: getattr(done, name) for name in ("n", "ok", "failed", "computed", "seconds", "layers", "failures")
        }
        _print_json({"path": str(done.path), **summary})
    else:
        rate = f", {done.computed / done.seconds:.0f} images/s" if done.computed else ""
        lengths = ", ".join(f"{name} {length}" for name, length in done.layers.items())
        click.echo(
            f"{done.path}: {done.ok} of {done.n} images, {done.failed} failed, {done.computed} computed now "
            f"({done.seconds:.1f} s{rate}); {lengths}"
        )
    if done.failed:
        ctx.exit(EXIT_ERROR if strict else EXIT_SOME_FAILED)


@contextlib.contextmanager
def _waiting(text: str) -> Iterator[None]:
    """Show that something slow has begun."""
    if stderr.is_terminal:
        stderr.print(f"{text} …", style="dim")
    yield


@contextlib.contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int, int], None]]:
    """Give a progress callback that draws a bar with rate and time left on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True) as bar:
        task = bar.add_task(text, total=None, rate="", failed="")

        def update(done: int, total: int, failed: int) -> None:
            speed = bar.tasks[task].speed
            bar.update(
                task,
                completed=done,
                total=total,
                rate=f"{speed:.0f} images/s" if speed else "",
                failed=f"{failed} failed" if failed else "",
            )

        yield update


def _notes(notes: Iterable[str]) -> None:
    for note in notes:
        stderr.print(f"note: {note}", markup=False)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _one_line(text: str) -> str:
    return text.encode("unicode_escape").decode() if "\n" in text else text


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)
