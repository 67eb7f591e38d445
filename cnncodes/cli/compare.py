"""Compares layers, classifiers and scalings."""

from __future__ import annotations

from typing import Any

import click

from cnncodes.cli.options import (
    CODES,
    EXIT_INTERRUPTED,
    command,
    option_force,
    option_guard,
    option_jobs,
    option_json,
)
from cnncodes.cli.output import check_plot, print_json, print_notes, print_table, progress_bar, save_plot
from cnncodes.system.imports import import_sklearn
from cnncodes.vocabulary import CLASSIFIERS, DEFAULT_SCALING, MAX_SEED, SCALINGS

DEFAULT_CLFS, DEFAULT_SCALES = tuple(CLASSIFIERS), (DEFAULT_SCALING,)


@command(
    "cnncodes compare",
    "cnncodes compare --clf svm --layer layer3 --layer penultimate --layer layer3+penultimate",
    "cnncodes compare mobilenet.h5 resnet.h5 --clf svm --plot layers.png",
    "cnncodes compare codes.h5 --model tuned.safetensors",
    "cnncodes compare --json | jq -r .command",
)
@click.argument("codes", nargs=-1)
@click.option("--clf", "clfs", multiple=True, type=click.Choice(list(CLASSIFIERS)), help="Probe.  [default: both]")
@click.option(
    "--layer", "layers", multiple=True, help="Layer, or several joined by +.  [default: all, and the last two together]"
)
@click.option(
    "--scale",
    "scales",
    multiple=True,
    type=click.Choice(list(SCALINGS)),
    help=f"Scaling of the codes.  [default: {DEFAULT_SCALING}]",
)
@click.option("--cv", type=click.IntRange(2), default=5, help="Folds of the cross-validation.")
@click.option(
    "--repeats",
    type=click.IntRange(1),
    help="Number of cross-validations.  [default: as many as give 1,500 answers, 5 at most]",
)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Seed of the folds.")
@option_guard
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="FILE",
    help="Fine-tuned model of these images: one more row.",
)
@option_jobs
@click.option("--plot", "picture", metavar="FILE", help="Draw accuracy by depth: .png, .svg or .pdf.")
@option_force
@option_json
@click.pass_context
def compare(
    ctx: click.Context,
    codes: tuple[str, ...],
    clfs: tuple[str, ...],
    scales: tuple[str, ...],
    picture: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Cross-validate layers × probes × scalings on the same folds, and print them best first.

    The star marks the recommended row: the one of the smallest log loss, or the default (a linear SVM on the last
    layer, or on it and another one) where that is as good within the noise. Ctrl-C ends the comparison and prints the
    rows that are done.
    """
    import_sklearn()
    from cnncodes.insight.compare import compare as run

    if picture:
        check_plot(picture, overwrite=force, inputs=[*codes, *options["models"]])
        if options["layers"] and all("+" in name for name in options["layers"]):
            raise click.UsageError("--plot draws single layers by their depth, and each --layer here joins several")
    with progress_bar("comparing", "probes") as progress:
        comparison = run(
            codes or (CODES,), clfs=clfs or DEFAULT_CLFS, scales=scales or DEFAULT_SCALES, progress=progress, **options
        )
    print_notes(comparison.notes)
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_table(*comparison.table())
        print_notes([f"* recommended, for its log loss: {comparison.command}"])
    if picture:
        save_plot(comparison.plot(), picture)
    if not comparison.finished:
        ctx.exit(EXIT_INTERRUPTED)
