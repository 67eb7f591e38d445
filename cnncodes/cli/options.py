"""How a command is declared, and the options that several commands have."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import click

from cnncodes.errors import WeightsError, named_by
from cnncodes.system.places import refuse_url
from cnncodes.vocabulary import AUTO, CODES_FILE, DEFAULT_BACKBONE, IMAGENET, MODEL_FILE

CLICK_NAMES = {"overwrite": "force"}  # names in Python, and those that commands have for them
CODES, MODEL = CODES_FILE, MODEL_FILE
EXIT_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 3, 130


class CommandWithExamples(click.Command):
    """A command whose help ends with examples, as a user types them, and whose errors name its options."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def invoke(self, ctx: click.Context) -> Any:
        with named_by(functools.partial(as_option, ctx)):
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def as_option(ctx: click.Context, name: str, value: Any = ..., of: str | None = None) -> str:
    """Return the option for a parameter, as `cnncodes.errors.parameter` asks for it.

    It is an option of the running command, or else comes with the command that has it: of `of`, or of the first one.
    """
    commands = {str(ctx.info_name): ctx.command}
    if ctx.parent is not None and isinstance(ctx.parent.command, click.Group):
        commands |= ctx.parent.command.commands
    for command_name in [of] if of in commands else commands:
        if words := _words(commands[str(command_name)], name, value):
            return words if command_name == ctx.info_name else f"`cnncodes {command_name} … {words}`"
    return name


def _words(command: click.Command, name: str, value: Any) -> str:
    """Return the words that set a parameter, or nothing if the command has no option for it."""
    name = CLICK_NAMES.get(name, name)
    option = next((one for one in command.params if isinstance(one, click.Option) and one.name == name), None)
    if option is None:
        return ""
    first = option.opts[0]
    if value is ... or value is True:
        return first
    if value is False:
        return next(iter(option.secondary_opts), "")
    values = value if isinstance(value, (list, tuple)) else [value]
    if not option.multiple:
        values = ["/".join(map(str, values))]
    return " ".join(f"{first} {shlex.quote(str(one))}" for one in values)


def command(*examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command with its examples."""
    return click.command(cls=CommandWithExamples, examples=examples, context_settings={"show_default": True})


def weights_here(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return the weights that were named, unless they are a URL, which is refused even where none are needed."""
    if value is not None:
        refuse_url(value, "a file of weights", error_type=WeightsError)
    return value


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
option_model = click.option(
    "-m",
    "--model",
    default=MODEL,
    show_default=True,
    help=f"Model file; or {IMAGENET}: a pretrained network with its own classes.",
)
option_backbone = click.option("--backbone", help=f"Network for --model {IMAGENET}.  [default: {DEFAULT_BACKBONE}]")
option_weights_of_model = click.option(
    "--weights",
    metavar="FILE|NAME",
    callback=weights_here,
    help=f"Weights file of the network, if it has moved; for --model {IMAGENET} also a name of published weights.",
)
option_device = click.option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]")
option_workers = click.option("--workers", type=click.IntRange(1), help="Worker threads.  [default: one per core]")
option_weights = click.option(
    "--weights",
    metavar="FILE",
    callback=weights_here,
    help="File or folder of the weights of the network, if it has moved.",
)
option_outside = click.option("--allow-outside", is_flag=True, help="Let a manifest name files outside its folder.")
option_force = click.option("--force", is_flag=True, help="Overwrite a file that another program has written, too.")
