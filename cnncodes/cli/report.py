"""Writes a page about a codes file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cnncodes.cli.options import CODES, command, option_force, option_json
from cnncodes.cli.output import files_read, open_output, print_json, print_notes, progress_bar
from cnncodes.vocabulary import MAX_SEED


@command(
    "cnncodes report --images photos/",
    "cnncodes report flowers.h5 --model flowers.safetensors --images photos/ -o flowers.html",
)
@click.argument("codes", default=CODES)
@click.option("-m", "--model", help="Model file.  [default: one is fitted to the recommended layer]")
@click.option("--images", metavar="IMAGES", help="What the codes file was made from, for the pictures.")
@click.option(
    "--advice/--no-advice",
    default=None,
    help="Compare the layers, draw the learning curve.  [default: up to 5,000 images]",
)
@click.option("--audit/--no-audit", default=None, help="Look for wrong labels and duplicates.  [default: the same]")
@click.option("--points", type=click.IntRange(1), default=2000, help="Images on the map, at most.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Seed of the folds and of the map.")
@click.option("-o", "--out", default="report.html", help="Page to write.")
@option_force
@option_json
def report(codes: str, out: str, force: bool, as_json: bool, **options: Any) -> None:
    """Write one page about CODES, for people who look: it works offline, and everything is in it.

    How good a classifier is, what it confuses, its surest mistakes, the layers compared, a map of the images, and how
    it was made.
    """
    from cnncodes.pages.report import REPORT, is_report, report

    inputs = [codes, options["model"], options["images"]]
    # Before the work: a place that cannot be written shows at once
    with open_output(out, REPORT, is_report, overwrite=force, inputs=files_read(*inputs)) as stream:
        with progress_bar("making the report", "steps") as progress:
            made = report(codes, progress=progress, **options)
        stream.write(made.html)
    print_notes(made.notes)
    if as_json:
        print_json({"path": out, "answer": made.answer, "pictures": made.pictures, **made.figures})
        return
    click.echo(made.answer)
    size = Path(out).stat().st_size / 1e6
    click.echo(f"{out}: {size:.1f} MB, {made.pictures} pictures")
