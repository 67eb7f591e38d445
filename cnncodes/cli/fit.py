"""Fits a linear classifier on codes."""

from __future__ import annotations

import time
from typing import Any

import click

from cnncodes.cli.options import CODES, MODEL, command, option_force, option_guard, option_jobs, option_json
from cnncodes.cli.output import print_json, print_notes, progress_bar
from cnncodes.cli.scores import print_lines, score_lines
from cnncodes.system.imports import import_sklearn
from cnncodes.vocabulary import CLASSIFIERS, DEFAULT_SCALING, MAX_SEED, SCALINGS, explained

HELP_C = (
    "Inverse strength of the penalty. 'auto' searches 45 values from 1e-6 to 1e5, from coarse to fine. Among those "
    "whose accuracy is within one standard error of the best, it takes the one with the best probabilities (Brier "
    "score), and where these are alike, a usual one."
)

HELP_SCALE = f"Scaling of the codes. {explained(SCALINGS)}."


@command(
    "cnncodes fit --clf svm --layer layer3",
    "cnncodes fit flowers.h5 --clf logreg --layer layer3 --layer penultimate -o flowers.safetensors",
    "cnncodes fit photos-2025.h5 photos-2026.h5",
    "cnncodes fit --json | jq .cv_accuracy",
)
@click.argument("codes", nargs=-1)
@click.option("--clf", type=click.Choice(list(CLASSIFIERS)), default="svm", help="Linear SVM or logistic regression.")
@click.option("--layer", "layers", multiple=True, default=["penultimate"], help="Layer; several are concatenated.")
@click.option("-C", "C", default="auto", metavar="auto|FLOAT", help=HELP_C)
@click.option("--scale", type=click.Choice(list(SCALINGS)), default=DEFAULT_SCALING, help=HELP_SCALE)
@click.option("--class-weight", type=click.Choice(["balanced"]), help="Weigh rare classes up.")
@click.option("--cv", type=click.IntRange(2), default=5, help="Folds of the cross-validation.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Seed of the folds.")
@click.option(
    "--one-se",
    is_flag=True,
    help="Take the smallest C within one standard error of the best accuracy, if that is below the usual choice.",
)
@click.option(
    "--nested", is_flag=True, help="Also estimate the accuracy with the choice of C included; takes --cv times as long."
)
@option_guard
@option_jobs
@click.option("--memory-limit", metavar="SIZE", help="Largest memory to use, for example 2GB.  [default: what is free]")
@click.option("--device", help="cpu, cuda or cuda:N: where matrices are multiplied.  [default: cpu]")
@click.option("-o", "--out", default=MODEL, help="Model file.")
@option_force
@option_json
def fit(
    codes: tuple[str, ...],
    C: str,
    memory_limit: str | None,
    out: str,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit a linear classifier on CODES, in seconds, with a cross-validated score.

    If the images have a split, it trains on `train` and reports on the held-out part as well. Several files, of
    different images that were extracted alike, are one training set.
    """
    import_sklearn()
    from cnncodes.models.fit import fit as run
    from cnncodes.models.model_file import MODEL, is_model
    from cnncodes.system.files import refuse_foreign
    from cnncodes.system.memory import parse_bytes

    if memory_limit is not None:
        try:
            options["memory_limit"] = parse_bytes(memory_limit)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--memory-limit") from error
    if C != "auto":
        try:
            options["C"] = float(C)
        except ValueError as error:
            raise click.BadParameter(f"{C!r} is neither 'auto' nor a number", param_hint="-C") from error
    codes = codes or (CODES,)
    refuse_foreign(out, MODEL, is_model, overwrite=force, inputs=codes)
    started = time.perf_counter()
    text = "choosing C" if C == "auto" else "fitting"
    with progress_bar(text, "values") as progress:
        model = run(codes, progress=progress, **options)
    seconds = time.perf_counter() - started
    model.save(out, overwrite=force)
    print_notes(model.notes)
    if as_json:
        print_json({**model.scores.to_dict(), "seconds": seconds, "model": out})
        return
    print_lines([*score_lines(model.scores), ("seconds", f"{seconds:.1f}"), ("saved", out)])
