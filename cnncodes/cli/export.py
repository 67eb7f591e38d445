"""Writes a model as one ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cnncodes.cli.options import MODEL, command, option_force, option_json, option_outside, option_weights
from cnncodes.cli.output import print_json, print_notes, working
from cnncodes.cli.scores import print_lines
from cnncodes.display import percent

if TYPE_CHECKING:
    from cnncodes.exporting.export import Exported


@command(
    "cnncodes export",
    "cnncodes export flowers.safetensors -o flowers.onnx",
    "cnncodes export --fp16 --json | jq .n_bytes",
    "cnncodes export flowers.safetensors --page flowers.html",
    "cnncodes export --int8 --images photos/",
)
@click.argument("model", default=MODEL, metavar="[MODEL]")
@click.option("-o", "--out", help="ONNX file.  [default: model.onnx, unless there is a --page]")
@click.option("--page", metavar="FILE", help="Write a page that labels images in a browser: one file, no network.")
@click.option("--fp16", is_flag=True, help="Keep large weights in float16: half the size, nearly the same answers.")
@click.option(
    "--int8", is_flag=True, help="Let the network compute in 8 bits; the probe is fitted again. Needs --images."
)
@click.option("--images", metavar="IMAGES", help="Labelled images that the model was fitted to, for --int8.")
@option_weights
@option_outside
@option_force
@option_json
def export(
    model: str, out: str | None, page: str | None, fp16: bool, int8: bool, force: bool, as_json: bool, **options: Any
) -> None:
    """Write a model as one ONNX file, which answers as `predict` does, without Python or torch.

    The file takes the decoded pixels of images of any size and gives label, probabilities, decision values and novelty.
    It is compared with `predict` on images of many sizes before it gets its name. A page holds the same model with
    weights in float16, and all that runs it.
    """
    from cnncodes.exporting.export import export as run
    from cnncodes.pages.classifier_page import export_page

    if fp16 and int8:
        raise click.UsageError("--fp16 and --int8 exclude each other")
    dtype = "int8" if int8 else "float16" if fp16 else "float32"
    written: list[Exported] = []
    with working("exporting"):
        if out or not page:
            written.append(run(model, out or "model.onnx", dtype=dtype, overwrite=force, **options))
        if page:
            written.append(export_page(model, page, weights=options["weights"], overwrite=force))
    print_notes(note for exported in written for note in exported.notes)
    if as_json:
        print_json({**written[0].to_dict(), **({"page": written[-1].to_dict()} if page and out else {})})
        return
    for exported in written:
        print_lines(_lines(exported))


def _lines(exported: Exported) -> list[tuple[str, str]]:
    parity = exported.parity
    lines = [
        ("labels as predict", f"{parity.n_same_labels} of {parity.n_images} images of many sizes"),
        (
            "probabilities",
            f"differ by up to {parity.native_difference:.1e}; on resized images {parity.resized_difference:.1e}",
        ),
    ]
    if parity.novelty_difference is not None:
        lines.append(("novelty", f"differs by up to {parity.novelty_difference:.1e}"))
    if (cost := exported.cost) is not None:
        low, high = (100 * end for end in cost.loss_interval)
        text = (
            f"{percent(cost.accuracy)}, loses {100 * cost.loss:.1f} points ({low:.1f} to {high:.1f}) on {cost.n} images"
        )
        lines.append(("accuracy in int8", text))
    size = f"{exported.n_bytes / 1e6:.1f} MB, weights in {exported.dtype}, {exported.n_operators} operators"
    return [*lines, ("size", size), ("saved", exported.path)]
