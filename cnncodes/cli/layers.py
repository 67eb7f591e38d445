"""Lists the layers of a network."""

from __future__ import annotations

import click

from cnncodes.cli.options import command, option_json
from cnncodes.cli.output import plain, print_json, print_table

FOR_SEQUENCES = ("tokens", "grid")  # columns of networks of tokens


@command("cnncodes layers resnet50", "cnncodes layers mobilenet_v2 --image-size 320", "cnncodes layers resnet50 --time")
@click.argument("backbone")
@click.option("--image-size", type=click.IntRange(1), help="Side in pixels of the input.")
@click.option("--time", "timed", is_flag=True, help="Measure how long an epoch of `finetune` takes on this machine.")
@option_json
def layers(backbone: str, image_size: int | None, timed: bool, as_json: bool) -> None:
    """List the layers of a network: name, map shape (channels, height, width), code length and stride.

    \b
    tokens       length of a sequence: patches, and before them class and register tokens
    grid         rows and columns of its patches
    trains       parameters of the network that `finetune --from NAME` trains
    kB           what it keeps of each image meanwhile, in kilobytes
    s            with --time: seconds that an epoch of 1,000 images takes
                 (measured: two steps of 8 images on random maps);
                 the last row, all, is the whole network
    """
    from dataclasses import asdict

    from cnncodes.networks.cut import find_cuts
    from cnncodes.networks.loading import load_backbone
    from cnncodes.networks.network import RANDOM
    from cnncodes.vocabulary import PENULTIMATE, TRAIN_ALL, TRAIN_HEAD

    if timed:
        from cnncodes.finetuning.epoch_seconds import epoch_seconds

    network = load_backbone(backbone, RANDOM, image_size=image_size)  # refuses a size that the network cannot take
    rows = network.list_layers()
    cuts = find_cuts(network)
    table = [asdict(row) for row in rows]
    if timed and TRAIN_ALL in cuts:
        table.append(dict.fromkeys(table[0]) | {"name": TRAIN_ALL})
    for line in table:
        first = TRAIN_HEAD if line["name"] == PENULTIMATE else line["name"]
        cost = cuts.get(first)
        line["trains"] = None if cost is None else cost.n_parameters
        line["kB"] = None if cost is None else round(cost.bytes_per_image / 1000, 1)
        if timed:
            line["s"] = None if cost is None else round(epoch_seconds(network, first), 1)
    if as_json:
        print_json(table)
        return
    shown = [name for name in table[0] if name not in FOR_SEQUENCES or any(row[name] for row in table)]
    print_table(shown, [[plain(row[name]) for name in shown] for row in table])
