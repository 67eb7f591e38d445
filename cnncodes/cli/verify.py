"""Checks a codes file."""

from __future__ import annotations

from typing import Any

import click

from cnncodes.cli.options import (
    CODES,
    EXIT_ERROR,
    command,
    option_device,
    option_json,
    option_outside,
    option_workers,
)
from cnncodes.cli.output import print_json, print_line, print_notes, progress_bar


@command("cnncodes verify codes.h5", "cnncodes verify codes.h5 photos/ --sample 200")
@click.argument("file", default=CODES)
@click.argument("images", required=False)
@click.option(
    "--sample", type=click.IntRange(1), default=64, help="Number of images in IMAGES that are computed again."
)
@option_outside
@option_device
@option_workers
@option_json
@click.pass_context
def verify(ctx: click.Context, file: str, as_json: bool, device: str | None, **options: Any) -> None:
    """Compare every row of FILE with its checksum; exit with 1 if one is damaged.

    With IMAGES, from which FILE was made, a random sample is also computed again and compared.
    """
    from cnncodes.extraction.verify import verify as run
    from cnncodes.images.image_set import name_of

    with progress_bar("comparing", "rows") as progress:
        result = run(file, device=device or "auto", progress=progress, **options)
    if as_json:
        print_json(result.to_dict())
    else:
        texts = {
            "damaged": "damaged",
            "wrong": "its codes are not those of its image",
            "changed": "the image has changed, or cannot be read",
        }
        for kind, text in texts.items():
            for name in getattr(result, kind):
                print_line(f"{text}: {name}")
        if result.damaged_columns:
            print_line(
                f"damaged: the {' and '.join(result.damaged_columns)} of {file}; `cnncodes extract` writes them anew"
            )
        if not result.sealed:
            print_notes([f"{file} was made by an earlier version: its ids, labels, groups and splits have no checksum"])
        if result.absent:
            reason = f"belong to images that are not in {name_of(options['images'])} (gone, or from another folder)"
            print_notes([f"{len(result.absent)} of {result.n} rows {reason}; the first is {result.absent[0]}"])
        recomputation = (
            f"; {result.recomputed} computed again, largest relative error {result.largest_error:.1g}, "
            f"{len(result.wrong)} wrong, {len(result.changed)} changed"
            if options["images"]
            else ""
        )
        intact = result.n - result.pending - len(result.damaged)
        counts = f"{intact} of {result.n} rows are intact, {result.pending} pending, {len(result.damaged)} damaged"
        print_line(f"{file}: {counts}{recomputation}")
    if not result.good:
        ctx.exit(EXIT_ERROR)
