"""Writes a model as one ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cnncodes.cli.options import MODEL, command, option_force, option_json, option_weights
from cnncodes.cli.output import print_json, print_notes, working
from cnncodes.cli.scores import print_lines

if TYPE_CHECKING:
    from cnncodes.exporting.export import Exported


@command(
    "cnncodes export",
    "cnncodes export flowers.safetensors -o flowers.onnx",
    "cnncodes export --fp16 --json | jq .n_bytes",
    "cnncodes export flowers.safetensors --page flowers.html",
)
@click.argument("model", default=MODEL, metavar="[MODEL]")
@click.option("-o", "--out", help="ONNX file.  [default: model.onnx, unless there is a --page]")
@click.option("--page", metavar="FILE", help="Write a page that labels images in a browser: one file, no network.")
@click.option("--fp16", is_flag=True, help="Keep large weights in float16: half the size, nearly the same answers.")
@option_weights
@option_force
@option_json
def export(
    model: str, out: str | None, page: str | None, fp16: bool, weights: str | None, force: bool, as_json: bool
) -> None:
    """Write a model as one ONNX file, which answers as `predict` does, without Python or torch.

    The file takes the decoded pixels of images of any size and gives label, probabilities, decision values and novelty.
    It is compared with `predict` on images of many sizes before it gets its name. A page holds the same model with
    weights in float16, and all that runs it.
    """
    from cnncodes.exporting.export import export as run
    from cnncodes.pages.classifier_page import export_page

    options: dict[str, Any] = {"weights": weights, "overwrite": force}
    written: list[Exported] = []
    with working("exporting"):
        if out or not page:
            written.append(run(model, out or "model.onnx", dtype="float16" if fp16 else "float32", **options))
        if page:
            written.append(export_page(model, page, **options))
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
    size = f"{exported.n_bytes / 1e6:.1f} MB, weights in {exported.dtype}, {exported.n_operators} operators"
    return [*lines, ("size", size), ("saved", exported.path)]
