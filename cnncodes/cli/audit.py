"""Shows what is wrong with labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cnncodes.cli.options import CODES, command, option_force, option_json, option_outside
from cnncodes.cli.output import (
    input_files,
    open_output,
    plain,
    print_json,
    print_line,
    print_message,
    print_notes,
    print_table,
    progress_bar,
    write_csv,
)
from cnncodes.display import percent
from cnncodes.system.files import head_of, refuse_foreign
from cnncodes.system.imports import import_sklearn
from cnncodes.vocabulary import CLASSIFIERS, MAX_SEED

MAX_TABLE_ROWS = 20
FINDINGS = "a table of findings"


@command("cnncodes audit", "cnncodes audit codes.h5 photos/ -o audit.csv", "cnncodes audit --json | jq .suspects")
@click.argument("codes", default=CODES)
@click.argument("images", required=False)
@click.option("--layer", "layers", multiple=True, default=["penultimate"], help="Layer; several are concatenated.")
@click.option("--clf", type=click.Choice(list(CLASSIFIERS)), default="svm", help="Probe that judges the labels.")
@click.option("--cv", type=click.IntRange(2), default=5, help="Folds of the cross-validation.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Seed of the folds.")
@click.option("-o", "--out", help="CSV file to write, a row for each finding.")
@option_outside
@option_force
@option_json
def audit(codes: str, images: str | None, out: str | None, force: bool, as_json: bool, **options: Any) -> None:
    """List labels of CODES that are probably wrong, near-duplicates, outliers and unreadable images.

    Duplicates are told by codes and by the small pictures that CODES keeps. If it keeps none, give IMAGES, from which
    it was made: more of them are found.
    """
    import_sklearn()
    from cnncodes.insight.audit import FIELDS, KINDS
    from cnncodes.insight.audit import audit as run

    def is_ours(path: Path) -> bool:
        return head_of(path).startswith(",".join(FIELDS) + "\n")

    if out:
        refuse_foreign(out, FINDINGS, is_ours, overwrite=force, inputs=input_files(codes, images))  # before the work
    with progress_bar("looking for what is wrong", "steps") as progress:
        result = run(codes, images, progress=progress, **options)
    print_notes(result.notes)
    if out:
        with open_output(out, FINDINGS, is_ours, overwrite=force, inputs=input_files(codes, images)) as stream:
            write_csv(stream, FIELDS, result.findings())
        print_message(f"{out}: {len(result.findings())} findings")
    if as_json:
        print_json(result.to_dict())
        return
    print_line(f"{result.n} images in {len(result.classes)} classes")
    if result.accuracy is not None and result.baseline_accuracy is not None:
        print_line(
            f"out-of-fold accuracy {percent(result.accuracy)} ({result.clf} on {' + '.join(result.layers)}); "
            f"always the most frequent class: {percent(result.baseline_accuracy)}"
        )
    print_table(["class", "images"], [(name, str(count)) for name, count in result.classes.items()])
    for kind in KINDS:
        _table(kind.title, kind.columns, [item.to_dict() for item in getattr(result, kind.key)])


def _table(title: str, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    """Print the worst findings of one kind."""
    limit = f"; the first {MAX_TABLE_ROWS}" if len(rows) > MAX_TABLE_ROWS else ""
    print_line()
    print_line(f"{title}: {len(rows) or 'none'}{limit}")
    if rows:
        print_table(
            [name.replace("_", " ") for name in columns],
            [
                [f"{row[name]:.3f}" if isinstance(row[name], float) else plain(row[name]) for name in columns]
                for row in rows[:MAX_TABLE_ROWS]
            ],
        )
