"""Finds the images that are most like a new one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cnncodes.cli.options import (
    CODES,
    command,
    option_device,
    option_force,
    option_json,
    option_outside,
    option_weights,
)
from cnncodes.cli.output import input_files, print_json, print_message, print_table, working
from cnncodes.system.files import refuse_foreign, writing_text
from cnncodes.system.optional import require
from cnncodes.urls import public_url


@command(
    "cnncodes similar photo.jpg",
    "cnncodes similar photo.jpg --codes codes.h5 -k 20 --html similar.html",
    "cnncodes similar photo.jpg --json | jq -r '.neighbours[].path'",
)
@click.argument("query")
@click.option("--codes", default=CODES, help="Codes file whose images are compared.")
@click.option("-k", "k", type=click.IntRange(1), default=9, help="Number of images to print.")
@click.option("--layer", default="penultimate", help="Layer whose codes are compared.")
@click.option("--html", metavar="FILE", help="Also write a page with the pictures.")
@click.option("--images", metavar="IMAGES", help="What the codes file was made from, for larger pictures.")
@option_outside
@option_force
@option_weights
@option_device
@option_json
def similar(
    query: str,
    codes: str,
    html: str | None,
    images: str | None,
    allow_outside: bool,
    force: bool,
    as_json: bool,
    layer: str,
    **options: Any,
) -> None:
    """Print the images of a codes file that are most like QUERY, the nearest first.

    Two images are alike if the cosine of the angle between their codes is large. Every image of the file is compared.
    """
    from cnncodes.neighbours.similar import similar as run

    if html:
        from cnncodes.codes.file import CodesFile
        from cnncodes.pages.montage import is_montage, montage

        require("jinja2", "--html")  # before the work, so that no time is lost
        checks: dict[str, Any] = {"overwrite": force, "inputs": input_files(query, codes, images)}
        refuse_foreign(html, "a page of similar images", is_montage, **checks)
        with CodesFile.open(codes) as file:
            if not images and not file.has_thumbnails:
                raise click.UsageError(f"--html needs --images: {codes} keeps no small pictures")
    with working("loading the network, and comparing"):
        neighbours = run(query, codes, allow_outside=allow_outside, layer=layer, **options)
    if html:
        with working("drawing the pictures"), CodesFile.open(codes) as file:
            page = montage(query, neighbours, images or file, allow_outside=allow_outside)
        with writing_text(Path(html)) as stream:
            stream.write(page)
        print_message(f"{html}: {len(neighbours)} pictures")
    if as_json:
        records = [asdict(neighbour) for neighbour in neighbours]
        print_json({"query": public_url(query), "layer": layer, "neighbours": records})
        return
    rows = [(f"{neighbour.similarity:.4f}", neighbour.label, neighbour.path) for neighbour in neighbours]
    print_table(["similarity", "label", "path"], rows)
