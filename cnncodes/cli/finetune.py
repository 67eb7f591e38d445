"""Trains the upper part of a network further."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnncodes.cli.curves import check_curves, curves_lines, save_curves
from cnncodes.cli.options import (
    CODES,
    MODEL,
    command,
    option_device,
    option_force,
    option_guard,
    option_json,
    option_outside,
    option_workers,
    weights_here,
)
from cnncodes.cli.output import Bar, input_files, print_json, print_message, print_notes, progress_bar, stderr
from cnncodes.cli.scores import print_lines, score_lines
from cnncodes.display import percent
from cnncodes.vocabulary import CLASSIFIERS, DEFAULT_SCALING, MAX_SEED, RESIZE_MODES, SCALINGS, VIEWS

if TYPE_CHECKING:
    from cnncodes.finetuning.result import Finetuning
    from cnncodes.finetuning.training import Epoch

STATE_SUFFIX = ".state"  # of the file beside the model file from which a run goes on
CHOSEN = "C, and how far to go from the probe, were chosen on the same folds"
C_CHOSEN = "C was chosen on the same folds; `cnncodes fit --nested` includes that choice"
HELP_FROM = (
    "First part of the network that is trained, with all above it: layer1 to layer4, head (the classifier alone), all, "
    "or the path of a module."
)
HELP_FREEZE = (
    "Part of that which stays as it is after all: a stage, module or parameter, by name or shell pattern (repeatable)."
)
HELP_UNFREEZE = "Part below that which is trained as well (repeatable). --freeze wins over it."
HELP_IMAGES = (
    "Images that the codes file was made from, where it does not keep the maps of the layer below. For --from layer4, "
    "`cnncodes extract --map layer3` keeps them."
)
HELP_SCRATCH = (
    "Also train the whole network, from the probe on and from random weights, and say what a pretrained network saves. "
    "No model is made of that."
)
HELP_CURVES = (
    "Draw accuracy by seconds and epochs of all that --scratch trains: .png, .svg or .pdf; or keep the points: .json, "
    "for `cnncodes report --curves`. May be given several times."
)


@command(
    "cnncodes finetune photos/ --from layer4 -o model.safetensors",
    "cnncodes extract photos/ --map layer3 && cnncodes finetune codes.h5 --from layer4",
    "cnncodes finetune codes.h5 --images photos/ --from layer3 --epochs 12",
    "cnncodes finetune photos/ --from layer3 --freeze '*.bias' --unfreeze features.6",
    "cnncodes finetune photos/ --views flip --json | jq .gain",
    "cnncodes finetune photos/ --curves curves.png --curves curves.json",
)
@click.argument("data", default=CODES, metavar="[CODES|IMAGES]")
@click.option("--images", metavar="IMAGES", help=HELP_IMAGES)
@click.option("--from", "train_from", default="layer4", metavar="PART", help=HELP_FROM)
@click.option("--freeze", multiple=True, metavar="NAME", help=HELP_FREEZE)
@click.option("--unfreeze", multiple=True, metavar="NAME", help=HELP_UNFREEZE)
@click.option("--batchnorm", is_flag=True, help="Let batch normalisation that is trained move its statistics.")
@click.option("--epochs", type=click.IntRange(1), default=8, help="How often each image is seen.")
@click.option("--lr", type=float, default=3e-4, help="Rate at the head; it is smaller towards the bottom.")
@click.option("--batch-size", type=click.IntRange(1), default=32, help="Images of a step.")
@click.option("--clf", type=click.Choice(list(CLASSIFIERS)), default="svm", help="Classifier of the probe.")
@click.option("--scale", type=click.Choice(list(SCALINGS)), default=DEFAULT_SCALING, help="Scaling of the codes.")
@click.option("--cv", type=click.IntRange(2), default=3, help="Folds on which it is asked whether it pays.")
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Seed of the folds and of the order of images."
)
@option_guard
@click.option("--always", is_flag=True, help="Keep the fine-tuned network even where it does not beat the probe.")
@click.option("--scratch", is_flag=True, help=HELP_SCRATCH)
@click.option("--curves", "files", multiple=True, metavar="FILE", help=HELP_CURVES)
@click.option("--backbone", help="Network, where images are given.  [default: mobilenet_v2]")
@click.option("--weights", metavar="NAME|FILE", callback=weights_here, help="Weights, or their file if it has moved.")
@click.option("--image-size", type=click.IntRange(1), help="Side in pixels, where images are given.")
@click.option("--resize", type=click.Choice(list(RESIZE_MODES)), help="How images become square.")
@click.option("--views", type=click.Choice(list(VIEWS)), help="Views of each image that are trained on.")
@option_outside
@option_device
@option_workers
@click.option("-o", "--out", default=MODEL, help="Model file.")
@option_force
@option_json
def finetune(
    data: str, out: str, force: bool, as_json: bool, scratch: bool, files: tuple[str, ...], **options: Any
) -> None:
    """Train the upper part of a network further, from the fitted probe on, and keep what is better.

    The frozen lower part runs once, or not at all where the codes file keeps its maps. Folds say what fine-tuning
    gains; the probe is kept where it is better by more than the standard error. Fine-tuning "gains" where the whole
    95 % interval of the gain is above 0, "likely gains" where the gain exceeds its standard error, or else "may gain".

    A network that cannot be cut below the part that is trained is cut further down; where it cannot be cut at all, it
    runs as a whole in every step, and a note says so.

    A run that was stopped or killed goes on with the same command, and gives the same model. Ctrl-C while folds are
    trained leaves no model, as nothing is known of it yet. Ctrl-C while the network is then trained on all images saves
    it as it was after the last complete epoch, and says so; the same command still trains it to the end. A second
    Ctrl-C ends the program at once.
    """
    from cnncodes.finetuning.finetune import finetune as run
    from cnncodes.finetuning.result import StoppedError
    from cnncodes.finetuning.state import STATE, is_state
    from cnncodes.models.model_file import MODEL, is_model
    from cnncodes.system.files import refuse_foreign

    refuse_foreign(out, MODEL, is_model, overwrite=force, inputs=input_files(data, options["images"]))
    check_curves(files, overwrite=force, inputs=list(input_files(data, options["images"])))
    state = Path(f"{out}{STATE_SUFFIX}")
    refuse_foreign(state, STATE, is_state, overwrite=force, inputs=input_files(data, options["images"]))
    if force and state.is_file() and not is_state(state):
        state.unlink()
    try:
        with progress_bar("fine-tuning", "steps") as bar:
            watchers: dict[str, Any] = {"progress": bar, "on_epoch": _show_epoch, "on_step": partial(_show_step, bar)}
            result = run(data, state=state, curves=scratch or bool(files), **watchers, **options)
    except StoppedError as stop:
        stop.result.model.save(out, overwrite=force)
        _show(stop.result, (out,), as_json)
        print_message(f"{state}: the same command goes on from there, to the end")
        raise
    except KeyboardInterrupt:
        if state.is_file() and state.stat().st_size:
            print_message(f"no model is saved yet; {state}: the same command goes on from there")
        raise
    result.model.save(out, overwrite=force)
    state.unlink(missing_ok=True)
    save_curves(result.curves, files, overwrite=force)
    _show(result, (out, *files), as_json)


def _show(result: Finetuning, saved: tuple[str, ...], as_json: bool) -> None:
    """Show what fine-tuning came to, and what was saved of it: the model first."""
    print_notes(note for note in result.model.notes if note != result.answer)
    if as_json:
        print_json({**result.to_dict(), "model": saved[0]})
        return
    lines = [*score_lines(result.model.scores, chosen=CHOSEN if result.model.tuned else C_CHOSEN)]
    lines.append(("probe, same images", percent(result.probe_accuracy)))
    if result.probe_test_accuracy is not None:
        lines.append(("probe, held out", percent(result.probe_test_accuracy.value)))
    lines.append(("fine-tuning", f"{result.answer}, {result.seconds:.0f} s"))
    lines += [*curves_lines(result.curves), *(("saved", path) for path in saved)]
    print_lines(lines)


def _show_epoch(what: str, epoch: Epoch) -> None:
    """Show the loss of an epoch above the bar, on a terminal."""
    if stderr.is_terminal and epoch.number:
        print_message(f"{what}: {_words(epoch)}", style="dim")


def _show_step(bar: Bar, what: str, epoch: Epoch) -> None:
    """Show the loss so far beside the bar."""
    bar.say(f"{what}: {_words(epoch)}")


def _words(epoch: Epoch) -> str:
    loss = f", loss {epoch.loss:.3f}" if math.isfinite(epoch.loss) else ""
    return f"epoch {epoch.number}{loss}"
