"""What to type after an advice: how to fit the recommended layer, and how to fine-tune where that pays."""

from __future__ import annotations

import os
from shlex import quote
from typing import TYPE_CHECKING

from cnncodes.codes.file import CodesFile
from cnncodes.images.image_set import Images
from cnncodes.insight.comparison import Comparison
from cnncodes.urls import public_url
from cnncodes.vocabulary import PENULTIMATE

if TYPE_CHECKING:
    from cnncodes.insight.finetuning_trial import FinetuningTrial

__all__ = ["finetuning_commands", "fit_commands"]


def fit_commands(comparison: Comparison) -> list[str]:
    """Return how to fit the recommended layers, and how to compare them with `penultimate` added."""
    best = comparison.recommended
    path = quote(best.codes)
    layers = " ".join(f"--layer {quote(name)}" for name in best.layers)
    commands = [f"cnncodes fit {path} --clf svm {layers}"]
    has_top = any(row.layers == [PENULTIMATE] for row in comparison.rows)
    if has_top and PENULTIMATE not in best.layers:  # what the two say together is often worth more than either
        together = quote("+".join([*best.layers, PENULTIMATE]))
        commands.append(f"cnncodes compare {path} --clf svm {layers} --layer {together}")
    return commands


def finetuning_commands(size: str, trial: FinetuningTrial | None, file: CodesFile, images: Images | None) -> list[str]:
    """Return how to fine-tune where a trial says that it pays, or how to try it if a large set was not tried.

    Parameters
    ----------
    size : {"small", "large", "undecided"}
    trial : FinetuningTrial, optional
    file : CodesFile
        Which may keep the maps that are needed.
    images : path, sequence, ndarray or ImageSet, optional
        The images, if they were named.
    """
    codes = quote(str(file.path))
    place = quote(public_url(os.fspath(images))) if isinstance(images, str | os.PathLike) else "IMAGES"
    given = "" if file.map_layers and images is None else f" --images {place}"
    if trial is None:
        return [f"cnncodes advise {codes} --finetune{given}"] if size == "large" else []
    return [f"cnncodes finetune {codes}{given} --from {trial.first}"] if trial.pays else []
