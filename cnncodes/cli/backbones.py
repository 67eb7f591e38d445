"""Lists the networks that can be used."""

from __future__ import annotations

import click

from cnncodes.cli.options import command, option_json
from cnncodes.cli.output import plain, print_json, print_table
from cnncodes.errors import CnnCodesError, nearest


@command("cnncodes backbones", "cnncodes backbones 'resnet*'", "cnncodes backbones 'timm:*lite*'")
@click.argument("pattern", required=False)
@option_json
def backbones(pattern: str | None, as_json: bool) -> None:
    """List the networks that can be used; PATTERN takes * and ?."""
    from dataclasses import asdict

    from cnncodes.networks.backbone import list_backbones
    from cnncodes.networks.licences import UNKNOWN

    table = [asdict(row) for row in list_backbones(pattern)]
    if pattern and not table:
        names = [row.name for row in list_backbones("timm:*" if pattern.startswith("timm:") else None)]
        raise CnnCodesError(
            f"no network is called {pattern!r}.{nearest(pattern, names)} `cnncodes backbones` lists all"
        )
    if as_json:
        print_json(table)
        return
    rows = [row | {"licence": row["licence"] or UNKNOWN} for row in table]
    print_table(list(rows[0]) if rows else [], [[plain(value) for value in row.values()] for row in rows])
