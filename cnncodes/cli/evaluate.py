"""Scores a fitted model."""

from __future__ import annotations

from typing import Any

import click

from cnncodes.cli.options import (
    CODES,
    command,
    option_backbone,
    option_device,
    option_guard,
    option_json,
    option_model,
    option_outside,
    option_weights_of_model,
    option_workers,
)
from cnncodes.cli.output import print_json, print_notes, print_table, progress_bar
from cnncodes.cli.scores import evaluation_lines, print_lines
from cnncodes.system.imports import import_sklearn


@command(
    "cnncodes evaluate",
    "cnncodes evaluate new-photos/ --model model.safetensors --json",
    "cnncodes evaluate new-photos/ --model imagenet",
)
@click.argument("data", default=CODES, metavar="[CODES|IMAGES]")
@option_model
@option_backbone
@option_weights_of_model
@option_guard
@option_outside
@option_device
@option_workers
@option_json
def evaluate(data: str, model: str, as_json: bool, **options: Any) -> None:
    """Score a fitted model: accuracy, precision and recall by class, and the confusion matrix.

    If a codes file has a split, the held-out images are used. IMAGES is a folder of class folders or a manifest.
    With --model imagenet their labels are compared with the classes that the network itself was trained on.
    """
    import_sklearn()
    from cnncodes.models.evaluate import evaluate as run

    with progress_bar("evaluating") as progress:
        result = run(data, model, progress=progress, **options)
    print_notes(result.notes)
    if as_json:
        print_json(result.to_dict())
        return
    print_lines(evaluation_lines(result))
    rows = [
        (name, f"{row['precision']:.3f}", f"{row['recall']:.3f}", str(row["n"]))
        for name, row in result.per_class.items()
    ]
    print_table(["class", "precision", "recall", "images"], rows)
    counts = [(name, *map(str, row)) for name, row in zip(result.classes, result.confusion.tolist(), strict=True)]
    print_table(["true ↓ predicted →", *result.classes], counts)
