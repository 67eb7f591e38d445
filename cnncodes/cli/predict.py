"""Labels new images."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from cnncodes.cli.options import (
    EXIT_SOME_FAILED,
    command,
    option_backbone,
    option_device,
    option_force,
    option_model,
    option_outside,
    option_weights_of_model,
    option_workers,
)
from cnncodes.cli.output import input_files, open_output, print_message, print_notes, progress_bar, short, write_csv
from cnncodes.display import for_json
from cnncodes.errors import CnnCodesError
from cnncodes.system.files import head_of, refuse_foreign
from cnncodes.system.places import make_folder
from cnncodes.vocabulary import IMAGENET

if TYPE_CHECKING:
    from cnncodes.images.image_set import ImageSet

COLUMNS = ["path", "label", "probability", "novelty", "guess", "status"]
NUMBER_COLUMNS = ["probability", "novelty"]


@command(
    "cnncodes predict new/",
    "cnncodes predict new/ --min-confidence 0.8",
    "cnncodes predict new/ --format json | jq '.[] | select(.novelty > 0.99)'",
    "cnncodes predict photo.jpg --model flowers.safetensors -o labels.csv",
    "cnncodes predict new/ --explain where/",
    "cnncodes predict s3://bucket/new/ -o labels.csv",
    "cnncodes predict new/ --model imagenet --backbone resnet50",
)
@click.argument("images")
@option_model
@click.option("-o", "--out", help="File to write.  [default: standard output]")
@option_force
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), default="csv", help="Format of the output.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    help="Smallest probability that gives a label; below it there is only a guess.  [default: label every image]",
)
@click.option(
    "--explain",
    metavar="DIR",
    help="Folder for a picture of each image, red where it speaks for the guess, blue where for others.",
)
@option_backbone
@option_weights_of_model
@option_outside
@option_device
@option_workers
@click.pass_context
def predict(
    ctx: click.Context,
    images: str,
    model: str,
    out: str | None,
    force: bool,
    kind: str,
    min_confidence: float | None,
    explain: str | None,
    **options: Any,
) -> None:
    """Label IMAGES (any folder or archive, a file or a manifest) with a fitted model, or by a network's own classes.

    \b
    path         of the image
    label        the answer; empty where it is unsure, or the image failed
    probability  of the best class
    novelty      share of the training images that look more familiar:
                 near 1, it may be none of the classes
    guess        the best class, however unsure
    status       labelled, unsure (less probable than --min-confidence)
                 or failed (cannot be read)
    """
    from cnncodes.images.loading import load_images
    from cnncodes.models.model import ProbeModel
    from cnncodes.models.predict import predict as run
    from cnncodes.networks.licences import licence_notes

    fitted = model if model == IMAGENET else ProbeModel.load(model)
    weights = [options["weights"]]  # a name of weights, or the path of a file
    if isinstance(fitted, ProbeModel):
        weights.append(fitted.provenance.weights)
        print_notes(licence_notes(fitted.provenance.weights, fitted.provenance.licence))
    checks: dict[str, Any] = {"overwrite": force, "inputs": input_files(images, model, *weights)}
    if explain is not None and not isinstance(fitted, ProbeModel):
        raise click.UsageError("--explain is for a model that was fitted; the network's own classes are not explained")
    taken: Any = images
    pictures_of: dict[str, Path] = {}
    if explain is not None:  # one list for both: the folder may change meanwhile
        taken = load_images(images, labelled=False, allow_outside=options["allow_outside"])
        pictures_of = _picture_files(Path(explain), images, taken, force)
    # Opened before the work, so that a place that cannot be written is an error at once
    with open_output(out, "predictions", _are_predictions, **checks) as stream:
        with progress_bar("predicting") as progress:
            options["progress"] = progress
            pictures = None
            if explain is not None and isinstance(fitted, ProbeModel):  # what it refuses, it refuses before the work
                pictures = fitted.explain(taken, **{name: options[name] for name in options if name != "backbone"})
            predictions = run(taken, fitted, min_confidence=min_confidence or 0.0, **options)
            for picture in pictures or ():
                path = pictures_of[picture.path]
                make_folder(path.parent)
                picture.save(path, overwrite=force)
        rows = [{name: getattr(prediction, name) for name in COLUMNS} for prediction in predictions]
        if kind == "json":
            stream.write(f"{for_json(rows)}\n")
        else:
            write_csv(stream, COLUMNS, ({**row, **{name: short(row[name]) for name in NUMBER_COLUMNS}} for row in rows))
    counts = Counter(prediction.status for prediction in predictions)
    for prediction in predictions:
        if prediction.status == "failed":
            print_message(f"failed: {prediction.path}: {prediction.reason}")
    if min_confidence is not None:
        print_message(
            f"unsure: {counts['unsure']} of {len(rows)} images, whose best class is less probable than "
            f"{min_confidence:g}"
        )
    failed = counts["failed"]
    if explain is not None:
        pictures_made = "1 picture" if len(rows) - failed == 1 else f"{len(rows) - failed} pictures"
        print_message(
            f"{Path(explain)}: {pictures_made}, red where it speaks for the guess, blue where for other classes"
        )
    if out:
        print_message(f"{out}: {len(rows) - failed} of {len(rows)} images, {failed} failed")
    if failed:
        ctx.exit(EXIT_SOME_FAILED)


def _picture_files(folder: Path, images: str, image_set: ImageSet, force: bool) -> dict[str, Path]:
    """Return where the picture of each image belongs, under its path with .png, by the path of the image.

    Makes the folder, unless the pictures would be images of the next command, or take the place of other files.
    """
    from cnncodes.models.explanation import EXPLANATION, is_explanation

    folders = {os.path.dirname(one) for one in image_set.sources if isinstance(one, (str, os.PathLike))}
    inside = Path(images).is_dir() and folder.resolve().is_relative_to(Path(images).resolve())
    if inside or folder.resolve() in {Path(one).resolve() for one in folders}:
        raise CnnCodesError(f"{folder}: is there among the images, which would get the pictures; choose another folder")
    make_folder(folder)
    files: dict[str, Path] = {}
    taken: set[Path] = set()
    for name in image_set.ids:
        parts = [part for part in PurePosixPath(name).parts if part not in ("..", "/")]
        path = folder.joinpath(*parts[:-1], f"{parts[-1]}.png")
        while path in taken:  # as for ../a.jpg and a.jpg
            path = path.with_name(f"{path.stem}-2.png")
        taken.add(path)
        files[name] = path
        if os.path.lexists(path):
            refuse_foreign(path, EXPLANATION, is_explanation, overwrite=force)
    return files


def _are_predictions(path: Path) -> bool:
    """Whether a file has the columns that this command writes, as CSV or JSON."""
    head = head_of(path)
    if head.startswith(",".join(COLUMNS) + "\n") or head == "[]\n":
        return True
    try:
        first, _ = json.JSONDecoder().raw_decode(head.removeprefix("[").lstrip())
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and list(first) == COLUMNS
