"""Compares layers and probes."""

from __future__ import annotations

from typing import Any

import click

from cnncodes.commands.options import CODES, command, option_json
from cnncodes.rendering import comparison_row, print_json, print_notes, print_table


@command("cnncodes compare", "cnncodes compare mobilenet.h5 resnet.h5 --clf svm --json")
@click.argument("codes", nargs=-1)
@click.option("--clf", "clfs", multiple=True, type=click.Choice(["svm", "logreg"]), help="Probe.  [default: both]")
@click.option("--layer", "layers", multiple=True, help="Layer.  [default: all]")
@click.option("--cv", type=click.IntRange(2), default=5, help="Folds of the cross-validation.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of the folds.")
@option_json
def compare(codes: tuple[str, ...], clfs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Cross-validate layers × probes on the same folds, and print them best first."""
    from cnncodes.fitting import compare as run

    comparison = run(codes or (CODES,), clfs=clfs or ("svm", "logreg"), **options)
    print_notes(comparison.notes)
    if as_json:
        print_json(comparison.to_dict())
        return
    headers = ["layer", "probe", "features", "C", "accuracy", "95 % interval", "seconds"]
    print_table(headers, [comparison_row(row) for row in comparison.rows])
