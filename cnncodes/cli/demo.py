"""Shows the main commands on the sample that is shipped."""

from __future__ import annotations

from pathlib import Path

import click

from cnncodes.cli.options import CODES, MODEL, command
from cnncodes.cli.output import print_line, quoted
from cnncodes.system.places import make_folder


@command("cnncodes demo", "cnncodes demo --folder try")
@click.option("--folder", default="cnncodes-demo", help="Where the files are written.")
@click.pass_context
def demo(ctx: click.Context, folder: str) -> None:
    """Extract, fit, evaluate, predict and compare on the sample that ships with cnncodes.

    Each step is printed as a command, which you can repeat with your own folder.
    """
    from cnncodes.system.shipped import SAMPLE, shipped_path

    sample = str(shipped_path(SAMPLE))
    make_folder(folder)
    codes, model = str(Path(folder, CODES)), str(Path(folder, MODEL))
    steps = [
        ["extract", sample, "-o", codes],
        ["fit", codes, "--clf", "svm", "-o", model],
        ["evaluate", codes, "--model", model],
        ["predict", str(Path(sample, "test", "Bag")), "--model", model, "-o", str(Path(folder, "predictions.csv"))],
        ["compare", codes, "--clf", "svm"],
    ]
    for number, step in enumerate(steps, 1):
        print_line()
        print_line(f"[{number}/{len(steps)}] $ cnncodes {' '.join(map(quoted, step))}", bold=True)
        if code := ctx.find_root().command.main(step, standalone_mode=False, prog_name="cnncodes"):
            ctx.exit(code)
    print_line()
    print_line("Now with your own images: cnncodes extract FOLDER, where FOLDER has one folder of images per class.")
