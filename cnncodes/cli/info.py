"""Says what is in a file."""

from __future__ import annotations

from pathlib import Path

import click

from cnncodes.cli.options import CODES, command, option_json
from cnncodes.cli.output import plain, print_json, print_line


@command("cnncodes info codes.h5", "cnncodes info model.safetensors --json")
@click.argument("file", default=CODES)
@option_json
def info(file: str, as_json: bool) -> None:
    """Say what is in a codes file or a model file, and where it came from."""
    from cnncodes.codes.layout import is_hdf5
    from cnncodes.codes.summary import map_in_words
    from cnncodes.networks.licences import UNKNOWN

    if Path(file).is_file() and not is_hdf5(file) and Path(file).suffix != ".h5":
        from cnncodes.models.model import ProbeModel

        facts = ProbeModel.load(file).info()
    else:
        from cnncodes.codes.file import CodesFile

        with CodesFile.open(file) as codes:
            facts = codes.info()
    if as_json:
        print_json(facts)
        return
    if "backbone" in facts:
        facts["licence"] = facts.get("licence") or UNKNOWN
    for name, value in facts.items():
        if isinstance(value, dict):
            print_line(f"{name}")
            for key, item in value.items():
                item = map_in_words(item) if name == "maps" else item
                print_line(f"  {key!s:<20} {plain(item)}")
        else:
            print_line(f"{name:<20}   {plain(value)}")
