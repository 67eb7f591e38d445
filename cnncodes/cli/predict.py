"""Labels new images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from cnncodes.cli.options import (
    EXIT_SOME_FAILED,
    command,
    option_device,
    option_force,
    option_model,
    option_outside,
    option_weights,
    option_workers,
)
from cnncodes.cli.output import input_files, open_output, print_message, print_notes, progress_bar, short, write_csv
from cnncodes.display import for_json
from cnncodes.system.files import head_of

COLUMNS = ["path", "label", "probability", "novelty", "guess", "status"]
NUMBER_COLUMNS = ["probability", "novelty"]


@command(
    "cnncodes predict new/",
    "cnncodes predict new/ --min-confidence 0.8",
    "cnncodes predict new/ --format json | jq '.[] | select(.novelty > 0.99)'",
    "cnncodes predict photo.jpg --model flowers.safetensors -o labels.csv",
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
@option_weights
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
    **options: Any,
) -> None:
    """Label IMAGES (any folder, a file or a manifest) with a fitted model.

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
    from cnncodes.models.model import ProbeModel
    from cnncodes.models.predict import predict as run
    from cnncodes.networks.licences import licence_notes

    fitted = ProbeModel.load(model)
    print_notes(licence_notes(fitted.provenance.weights, fitted.provenance.licence))
    weights = [options["weights"], fitted.provenance.weights]  # a name of weights, or the path of a file
    checks: dict[str, Any] = {"overwrite": force, "inputs": input_files(images, model, *weights)}
    # Opened before the work, so that a place that cannot be written is an error at once
    with open_output(out, "predictions", _are_predictions, **checks) as stream:
        with progress_bar("predicting") as progress:
            predictions = run(images, fitted, min_confidence=min_confidence or 0.0, progress=progress, **options)
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
    if out:
        print_message(f"{out}: {len(rows) - failed} of {len(rows)} images, {failed} failed")
    if failed:
        ctx.exit(EXIT_SOME_FAILED)


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
