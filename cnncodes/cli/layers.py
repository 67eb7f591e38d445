"""Lists the layers of a network."""

from __future__ import annotations

import click

from cnncodes.cli.options import command, option_json
from cnncodes.cli.output import plain, print_json, print_table

FOR_SEQUENCES = ("tokens", "grid")  # columns of networks of tokens


@command("cnncodes layers resnet50", "cnncodes layers mobilenet_v2 --image-size 320")
@click.argument("backbone")
@click.option("--image-size", type=click.IntRange(1), help="Side in pixels of the input.")
@option_json
def layers(backbone: str, image_size: int | None, as_json: bool) -> None:
    """List the layers of a network: name, map shape (channels, height, width), code length and stride.

    \b
    tokens       length of a sequence: patches, and before them class and register tokens
    grid         rows and columns of its patches
    trains       parameters of the network that `finetune --from NAME` trains
    kB           what it keeps of each image meanwhile, in kilobytes
    """
    from dataclasses import asdict

    from cnncodes.networks.backbone import load_backbone
    from cnncodes.networks.cut import find_cuts
    from cnncodes.networks.network import RANDOM
    from cnncodes.vocabulary import PENULTIMATE, TRAIN_HEAD

    network = load_backbone(backbone, RANDOM, image_size=image_size)  # refuses a size that the network cannot take
    rows = network.list_layers()
    cuts = find_cuts(network)
    if TRAIN_HEAD in cuts:
        cuts[PENULTIMATE] = cuts.pop(TRAIN_HEAD)
    table = []
    for row in rows:
        cost = cuts.get(row.name)
        trained = None if cost is None else cost.n_parameters
        table.append(asdict(row) | {"trains": trained, "kB": cost and round(cost.bytes_per_image / 1000, 1)})
    if as_json:
        print_json(table)
        return
    shown = [name for name in table[0] if name not in FOR_SEQUENCES or any(row[name] for row in table)]
    print_table(shown, [[plain(row[name]) for name in shown] for row in table])
