"""How commands are declared: examples in the help, and options that several have."""

from __future__ import annotations

from typing import Any

import click
from click.testing import CliRunner

from cnncodes.cli.options import command, option_guard, option_jobs, option_json


@command("show --json | jq .", "show  'with  blanks'")
@option_guard
@option_jobs
@option_json
def show(**options: Any) -> None:
    """Show the options."""
    click.echo(options)


def test_the_help_ends_with_the_examples_as_they_are_typed() -> None:
    text = CliRunner().invoke(show, ["--help"]).stdout
    assert text.endswith("Examples:\n  show --json | jq .\n  show  'with  blanks'\n")


def test_shared_options_have_their_defaults_and_values() -> None:
    assert CliRunner().invoke(show, []).stdout == "{'guard': True, 'n_jobs': 'auto', 'as_json': False}\n"
    words = ["--no-guard", "--jobs", "3", "--json"]
    assert CliRunner().invoke(show, words).stdout == "{'guard': False, 'n_jobs': 3, 'as_json': True}\n"
