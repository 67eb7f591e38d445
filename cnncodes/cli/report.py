"""Writes a page about a codes file."""

from __future__ import annotations

from typing import Any

import click

from cnncodes.cli.options import CODES, command, option_force, option_json, option_outside
from cnncodes.cli.output import input_files, open_output, print_json, print_line, print_notes, progress_bar
from cnncodes.system.imports import import_sklearn
from cnncodes.vocabulary import MAX_SEED


@command(
    "cnncodes report",
    "cnncodes report flowers.h5 --model flowers.safetensors --images photos/ -o flowers.html",
)
@click.argument("codes", default=CODES)
@click.option("-m", "--model", help="Model file.  [default: one is fitted to the recommended layer]")
@click.option("--images", metavar="IMAGES", help="What the codes file was made from, for larger pictures.")
@click.option(
    "--advice/--no-advice",
    default=None,
    help="Compare the layers, and draw the learning curve.  [default: for up to 5,000 images]",
)
@click.option("--audit/--no-audit", default=None, help="Look for wrong labels and duplicates.  [default: the same]")
@click.option(
    "--explain/--no-explain",
    default=None,
    help="Show what speaks for the wrong answers; needs --images.  [default: where these are given]",
)
@click.option("--curves", metavar="FILE", help="What `cnncodes finetune --curves FILE.json` wrote, to be shown, too.")
@click.option("--points", type=click.IntRange(1), default=2000, help="Largest number of images on the map.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Seed of the folds and of the map.")
@click.option("-o", "--out", default="report.html", help="Page to write.")
@option_outside
@option_force
@option_json
def report(codes: str, out: str, force: bool, as_json: bool, **options: Any) -> None:
    """Write one page about CODES to look at: one file, which works offline.

    It shows how good a classifier is, what it confuses, its surest mistakes, the layers compared, a map of the images,
    and how all of it was made.
    """
    import_sklearn()
    from cnncodes.pages.report import REPORT, is_report, report

    inputs = [codes, options["model"], options["images"], options["curves"]]
    # Opened before the work, so that a place that cannot be written is an error at once
    with open_output(out, REPORT, is_report, overwrite=force, inputs=input_files(*inputs)) as stream:
        with progress_bar("making the report", "steps") as progress:
            page = report(codes, progress=progress, **options)
        stream.write(page.html)
    print_notes(page.notes)
    if as_json:
        print_json({"path": out, "answer": page.answer, "pictures": page.pictures, **page.figures})
        return
    print_line(page.answer)
    print_line(f"{out}: {len(page.html.encode()) / 1e6:.1f} MB, {page.pictures} pictures")
