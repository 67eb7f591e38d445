"""How a command is declared, and the options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from cnncodes.vocabulary import AUTO, CODES_FILE, MODEL_FILE

CODES, MODEL = CODES_FILE, MODEL_FILE
EXIT_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 3, 130


class CommandWithExamples(click.Command):
    """A command whose help ends with examples, printed as a user types them."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def command(*examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command with its examples."""
    return click.command(cls=CommandWithExamples, examples=examples, context_settings={"show_default": True})


option_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
option_guard = click.option(
    "--guard/--no-guard",
    default=True,
    help="Keep near-duplicates on the same side of each fold and split. Groups of a table always stay on one side.",
)
option_jobs = click.option(
    "--jobs",
    "n_jobs",
    type=click.IntRange(1),
    callback=lambda ctx, option, value: value or AUTO,
    help="Folds that run in parallel.  [default: one per core, if that saves time]",
)
option_model = click.option("-m", "--model", default=MODEL, show_default=True, help="Model file.")
option_device = click.option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]")
option_workers = click.option("--workers", type=click.IntRange(1), help="Worker threads.  [default: one per core]")
option_weights = click.option("--weights", metavar="FILE", help="Weights file of the network, if it has moved.")
option_outside = click.option("--allow-outside", is_flag=True, help="Let a manifest name files outside its folder.")
option_force = click.option("--force", is_flag=True, help="Overwrite a file that another program has written, too.")
