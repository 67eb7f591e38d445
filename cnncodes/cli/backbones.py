"""Lists the networks that can be used."""

from __future__ import annotations

from typing import Any

import click

from cnncodes.cli.options import command, option_json
from cnncodes.cli.output import plain, print_json, print_table
from cnncodes.errors import CnnCodesError, nearest


@command(
    "cnncodes backbones",
    "cnncodes backbones --recommended",
    "cnncodes backbones 'resnet*'",
    "cnncodes backbones 'timm:*lite*'",
)
@click.argument("pattern", required=False)
@click.option("--recommended", is_flag=True, help="List a few that are worth a try, with their published accuracy.")
@option_json
def backbones(pattern: str | None, recommended: bool, as_json: bool) -> None:
    """List the networks that can be used; PATTERN takes * and ?.

    \b
    weights   what is taken unless --weights says otherwise
    top1      published accuracy on ImageNet-1K in percent
    licence   of these weights
    measured  trained: the network learned these classes;
              linear: a linear classifier on the frozen network did
    """
    from dataclasses import asdict

    if recommended:
        if pattern:
            raise click.UsageError("--recommended is a list of its own; leave PATTERN out")
        from cnncodes.networks.recommended import RECOMMENDED

        _print([asdict(row) for row in RECOMMENDED], as_json)
        return
    from cnncodes.networks.registry import list_backbones

    table = [asdict(row) for row in list_backbones(pattern)]
    if pattern and not table:
        names = [row.name for row in list_backbones("timm:*" if pattern.startswith("timm:") else None)]
        raise CnnCodesError(
            f"no network is called {pattern!r}.{nearest(pattern, names)} `cnncodes backbones` lists all"
        )
    _print(table, as_json)


def _print(table: list[dict[str, Any]], as_json: bool) -> None:
    from cnncodes.networks.licences import UNKNOWN

    if as_json:
        print_json(table)
        return
    rows = [row | {"licence": row["licence"] or UNKNOWN} for row in table]
    print_table(list(rows[0]) if rows else [], [[plain(value) for value in row.values()] for row in rows])
