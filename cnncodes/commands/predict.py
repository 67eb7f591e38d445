"""Labels new images."""

from __future__ import annotations

import csv
import json
from typing import Any

import click

from cnncodes.commands.options import (
    EXIT_SOME_FAILED,
    command,
    option_device,
    option_model,
    option_outside,
    option_weights_of_model,
    option_workers,
)
from cnncodes.rendering import one_line, open_output, progress_bar, short, stderr


@command(
    "cnncodes predict new/",
    "cnncodes predict new/ --format json | jq '.[] | select(.probability < 0.5)'",
    "cnncodes predict photo.jpg --model flowers.safetensors -o labels.csv",
)
@click.argument("images")
@option_model
@click.option("-o", "--out", help="File to write.  [default: standard output]")
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), default="csv", help="Of the output.")
@option_weights_of_model
@option_outside
@option_device
@option_workers
@click.pass_context
def predict(ctx: click.Context, images: str, model: str, out: str | None, kind: str, **options: Any) -> None:
    """Label IMAGES (any folder, a file or a manifest) with a fitted model: path, label, probability."""
    from cnncodes.models import ProbeModel

    fitted = ProbeModel.load(model)
    with open_output(out) as stream:  # before the images: a place that cannot be written shows at once
        with progress_bar("predicting") as progress:
            predictions = fitted.predict_images(images, progress=progress, **options)
        rows = [{"path": one.path, "label": one.label, "probability": one.probability} for one in predictions]
        failed = [one for one in predictions if one.label is None]
        if kind == "json":
            json.dump(rows, stream, indent=2, ensure_ascii=False)
            stream.write("\n")
        else:
            writer = csv.DictWriter(stream, ["path", "label", "probability"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {**row, "probability": short(one.probability)} for row, one in zip(rows, predictions, strict=True)
            )
    for one in failed:
        stderr.print(f"failed: {one_line(one.path)}: {one.reason}", markup=False)
    if out:
        stderr.print(f"{out}: {len(rows) - len(failed)} of {len(rows)} images, {len(failed)} failed", markup=False)
    if failed:
        ctx.exit(EXIT_SOME_FAILED)
