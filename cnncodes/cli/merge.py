"""Joins the parts of a sharded extraction."""

from __future__ import annotations

import click

from cnncodes.cli.options import CODES, command
from cnncodes.cli.output import print_line, working


@command("cnncodes merge part-1.h5 part-2.h5 part-3.h5 -o codes.h5")
@click.argument("parts", nargs=-1, required=True)
@click.option("-o", "--out", default=CODES, help="Codes file to make.")
def merge(parts: tuple[str, ...], out: str) -> None:
    """Join the PARTS that `cnncodes extract --shard i/n` made into one codes file."""
    from cnncodes.codes.file import CodesFile
    from cnncodes.extraction.merge import merge as run

    with working("joining"):
        run(parts, out)
    with CodesFile.open(out) as file:
        print_line(
            f"{out}: {file.counts['ok']} of {file.n} images, {file.counts['failed']} failed, from {len(parts)} parts"
        )
