"""Lists the layers of a network."""

from __future__ import annotations

import click

from cnncodes.cli.options import command, option_json
from cnncodes.cli.output import plain, print_json, print_table


@command("cnncodes layers resnet50", "cnncodes layers mobilenet_v2 --image-size 320")
@click.argument("backbone")
@click.option("--image-size", type=click.IntRange(1), help="Side in pixels of the input.")
@option_json
def layers(backbone: str, image_size: int | None, as_json: bool) -> None:
    """List the layers of a network: name, map shape (channels, height, width), code length and stride."""
    from dataclasses import asdict

    from cnncodes.networks.backbone import list_layers

    table = [asdict(row) for row in list_layers(backbone, image_size)]
    if as_json:
        print_json(table)
        return
    print_table(list(table[0]), [[plain(value) for value in row.values()] for row in table])
