"""Runs images through a network, once."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cnncodes.cli.options import (
    CODES,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_SOME_FAILED,
    command,
    option_device,
    option_json,
    option_outside,
    option_workers,
)
from cnncodes.cli.output import (
    print_json,
    print_line,
    print_message,
    print_notes,
    progress_bar,
    quoted,
    waiting,
    working,
)
from cnncodes.system.imports import import_torch
from cnncodes.vocabulary import (
    AUTO,
    CLASS,
    CODE_TYPES,
    DEFAULT_BACKBONE,
    DEFAULT_POOLING,
    PATCHES,
    POOLINGS,
    PRECISIONS,
    RESIZE_MODES,
    VIEWS,
    explained,
)

MAX_FAILURES_SHOWN = 10


def _parse_shard(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    part, _, total = value.partition("/")
    if not (part.isdecimal() and total.isdecimal()):
        raise click.BadParameter(f"{value!r} is not like 2/8")
    return int(part), int(total)


@command(
    "cnncodes extract photos/",
    "cnncodes extract photos/ -o flowers.h5 --backbone resnet50 --layer layer3 --layer penultimate",
    "cnncodes extract photos/ --shard 2/8 -o part-2.h5          # on the second of eight machines",
    "cnncodes extract more/ --add          # keeps what codes.h5 has of another folder",
    "cnncodes extract photos/ --map layer3          # and the maps of layer3, to train what follows it",
    "cnncodes extract photos/ --ray auto            # on all machines of the Ray cluster that runs here",
    "cnncodes extract images.csv --resize pad --image-size 320      # columns path,label[,group][,split]",
    "cnncodes extract s3://bucket/photos/          # or gs://, hf://: pip install 'cnncodes[remote]'",
    "cnncodes extract https://host/images.csv      # a table or an archive: web servers list no folders",
)
@click.argument("images")
@click.option("-o", "--out", default=CODES, help="Codes file; if it exists, it is continued.")
@click.option("--backbone", help=f"Network, see `cnncodes backbones`.  [default: {DEFAULT_BACKBONE}]")
@click.option(
    "--weights",
    metavar="NAME|FILE|FOLDER",
    help="Weights by name, a .pth, .pt or .safetensors file, or a folder of the Hugging Face hub as timm writes "
    "it, which also names its network.",
)
@click.option(
    "--layer", "layers", multiple=True, help="Layer to keep; may be repeated.  [default: layer1…4, penultimate]"
)
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="LAYER",
    help="Keep the feature maps of a layer, too, to train what follows it; may be repeated. They are large: layer3 of "
    "mobilenet_v2 takes 37.6 kB an image.",
)
@click.option(
    "--pool",
    "pooling",
    metavar="|".join(POOLINGS),
    help=f"How a map becomes a vector. {explained(POOLINGS)}.  [default: {DEFAULT_POOLING}; of "
    f"vision transformers, as they are read: {CLASS}, {PATCHES} or {CLASS}+{PATCHES}]",
)
@click.option("--image-size", type=click.IntRange(1), help="Side in pixels of the square that enters the network.")
@click.option(
    "--resize", type=click.Choice(list(RESIZE_MODES)), help=f"How an image becomes square. {explained(RESIZE_MODES)}."
)
@click.option(
    "--views",
    type=click.Choice(list(VIEWS)),
    help="Keep the codes of several views of each image: itself and its mirror image, or ten crops.  [default: none]",
)
@click.option(
    "--precision", type=click.Choice([AUTO, *PRECISIONS]), help="Number format of the network.  [default: auto]"
)
@option_device
@click.option("--batch-size", type=click.IntRange(1), help="Images that go through the network together.")
@option_workers
@click.option("--dtype", type=click.Choice([AUTO, *CODE_TYPES]), help="Type of the codes.  [default: auto]")
@click.option(
    "--exact-decode",
    is_flag=True,
    default=None,
    help="Decode JPEG at full size and resize with Pillow: exactly the pixels of the weights' own transform.",
)
@click.option(
    "--ignore-profiles",
    is_flag=True,
    default=None,
    help="Do not convert images with a colour profile to sRGB, as the weights' own transform does not.",
)
@click.option("--compile/--no-compile", default=None, help="Compile the network.  [default: where it saves time]")
@click.option(
    "--image-timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    help="Seconds to read one image, and to decode it.",
)
@click.option(
    "--max-pixels", type=click.IntRange(1), default=120_000_000, help="Refuse an image file with more pixels than this."
)
@click.option("--retry-failed", is_flag=True, help="Try again the images that are recorded as failed.")
@click.option("--allow-partial", is_flag=True, default=None, help="Accept a weights file that lacks parameters.")
@click.option("--shard", metavar="I/N", callback=_parse_shard, help="Extract part I of N; `cnncodes merge` joins them.")
@click.option(
    "--ray",
    "address",
    metavar="auto|ADDRESS",
    help="Let the machines of a Ray cluster compute: the one that runs here, or the one at HOST:PORT.",
)
@click.option(
    "--mixed-nodes", is_flag=True, help="Let machines take part whose processors give other last bits of the codes."
)
@click.option("--add", is_flag=True, help="Keep what the file has of other images, and add these.")
@click.option("--prune", is_flag=True, help="Drop what the file has of images that are not in IMAGES any more.")
@click.option(
    "--thumbnails/--no-thumbnails",
    default=None,
    help="Keep a small picture of each image, 4.6 kB, by which copies are found and shown.  [default: as in the file; "
    "a new one keeps them]",
)
@option_outside
@click.option("--strict", is_flag=True, help="Exit with 1 instead of 3 when some images failed.")
@option_json
@click.pass_context
def extract(
    ctx: click.Context,
    images: str,
    out: str,
    strict: bool,
    as_json: bool,
    allow_outside: bool,
    address: str | None,
    mixed_nodes: bool,
    **options: Any,
) -> None:
    """Run IMAGES through a pretrained network, once, and keep their codes in a file.

    IMAGES is a folder of class folders, a folder with train/ and test/ folders of those, a CSV or TSV file, one image,
    or a .npy or .npz file; or a .zip or .tar archive, read as its folder would be. Repeating the command continues what
    was interrupted, and computes only what is new. If the file has codes of images that are not in IMAGES, the command
    refuses: --add keeps them, --prune drops them.

    Folders, tables and images may be URLs, as s3://bucket/photos/, and paths in tables as well.
    """
    import_torch()
    from cnncodes.extraction.extract import extract as run
    from cnncodes.images.loading import load_images
    from cnncodes.urls import without_secrets

    if options["add"] and options["prune"]:
        raise click.UsageError("--add keeps what --prune drops; choose one")
    if address is None and mixed_nodes:
        raise click.UsageError("--mixed-nodes is for --ray")
    if address is not None:
        if options["shard"]:
            raise click.UsageError("--shard is not needed with --ray: the machines share the images")
        from cnncodes.cluster.ray_cluster import RayCluster

        options["cluster"] = RayCluster(address, mixed_nodes=mixed_nodes)
    for name in ("layers", "maps"):
        options[name] = options[name] or None
    try:
        with working("listing the images"):
            image_set = load_images(images, allow_outside=allow_outside)
        with waiting("loading the network"), progress_bar("extracting") as progress:
            result = run(image_set, out, progress=progress, **options)
    except KeyboardInterrupt:
        remark = "; what is done is kept" if Path(out).exists() else ""
        words = without_secrets(" ".join(map(quoted, sys.argv[1:])))
        print_message(f"interrupted{remark}. To continue: cnncodes {words}")
        ctx.exit(EXIT_INTERRUPTED)
    print_notes(result.notes)
    for node in result.nodes:
        print_message(f"{node.name}: {node.images} images, {node.images_per_second:.1f} images/s")
    for name, reason in list(result.failures.items())[:MAX_FAILURES_SHOWN]:
        print_message(f"failed: {name}: {reason}")
    if result.failed > MAX_FAILURES_SHOWN:
        print_message(f"… and {result.failed - MAX_FAILURES_SHOWN} more: cnncodes info {quoted(out)}")
    if as_json:
        summary = {
            name: getattr(result, name) for name in ("n", "ok", "failed", "computed", "seconds", "layers", "failures")
        }
        if result.nodes:
            summary["nodes"] = [asdict(node) for node in result.nodes]
        print_json({"path": str(result.path), **summary})
    else:
        rate = f", {result.computed / result.seconds:.0f} images/s" if result.computed else ""
        lengths = ", ".join(f"{name} {length}" for name, length in result.layers.items())
        print_line(
            f"{result.path}: {result.ok} of {result.n} images, {result.failed} failed, {result.computed} computed now "
            f"({result.seconds:.1f} s{rate}); {lengths}"
        )
    if result.failed:
        ctx.exit(EXIT_ERROR if strict else EXIT_SOME_FAILED)
