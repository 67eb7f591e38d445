"""Says which case of transfer learning a data set is."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import click

from cnncodes.cli.options import (
    CODES,
    command,
    option_force,
    option_jobs,
    option_json,
    option_outside,
    option_weights,
)
from cnncodes.cli.output import (
    check_plot,
    input_files,
    print_json,
    print_line,
    print_notes,
    print_table,
    progress_bar,
    save_plot,
)
from cnncodes.display import points
from cnncodes.system.imports import import_sklearn
from cnncodes.vocabulary import MAX_SEED

if TYPE_CHECKING:
    from cnncodes.insight.advise import Advice

HELP_IMAGES = (
    "Images that CODES was made from: fine-tuning is tried on a sample of them, unless CODES keeps maps "
    "(`cnncodes extract --map layer3`)."
)
HELP_FINETUNE = (
    "Try fine-tuning on a sample of up to 2,000 images.  [default: if the set is large, and images or maps are at hand]"
)


@command(
    "cnncodes advise",
    "cnncodes advise flowers.h5 --plot advice.png",
    "cnncodes advise flowers.h5 --images flowers/ --finetune",
    "cnncodes advise --json | jq -r .summary",
)
@click.argument("codes", default=CODES)
@click.option("--images", metavar="IMAGES", help=HELP_IMAGES)
@click.option("--finetune/--no-finetune", default=None, help=HELP_FINETUNE)
@click.option("--cv", type=click.IntRange(2), default=5, help="Folds of the cross-validation.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Seed of the folds.")
@option_jobs
@option_outside
@option_weights
@click.option("--plot", "picture", metavar="FILE", help="Draw accuracy by depth and the learning curve: .png or .svg.")
@option_force
@option_json
def advise(codes: str, picture: str | None, force: bool, as_json: bool, **options: Any) -> None:
    """Say which of the four cases of transfer learning CODES is, small or large, similar to ImageNet or not.

    Prints the evidence, what twice as many images would bring, and the commands to type next. For a large set it tries
    fine-tuning on a sample.
    """
    import_sklearn()
    from cnncodes.insight.advise import advise as run

    if picture:
        check_plot(picture, overwrite=force, inputs=input_files(codes, options["images"]))
    with progress_bar("fitting", "fits") as progress:
        advice = run(codes, progress=progress, **options)
    print_notes(advice.notes)
    if as_json:
        print_json(advice.to_dict())
    else:
        _show(advice)
    if picture:
        save_plot(advice.plot()[0], picture)


def _show(advice: Advice) -> None:
    print_line(f"{advice.summary}.")
    print_line()
    print_table(["evidence", "found", "says"], map(astuple, advice.evidence))
    if advice.curve is not None:
        gains = ", ".join(f"{name} ({points(gain)} points)" for name, gain in advice.curve.helped_most())
        if gains:
            print_line()
            print_line(f"The last doubling of the images helped these classes most: {gains}.")
    print_line()
    print_line("Next:")
    for line in advice.commands:
        print_line(f"  {line}")
