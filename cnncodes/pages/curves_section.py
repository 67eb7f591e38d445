"""The section of a report on fine-tuning: accuracy by time and epochs, beside training from random weights."""

from __future__ import annotations

import os
from typing import Any

from cnncodes.finetuning.curves import Curves
from cnncodes.pages.plots import draw

__all__ = ["curves_section", "load_curves"]

DESCRIPTION = "Accuracy by seconds and by epochs; the table below has where each line ends"


def load_curves(curves: str | os.PathLike[str] | Curves | None) -> Curves | None:
    """Return curves that are given, or those of a file."""
    return curves if curves is None or isinstance(curves, Curves) else Curves.load(curves)


def curves_section(curves: Curves | None) -> dict[str, Any]:
    """Give the plot, what it says in words, and where each line ends."""
    if curves is None:
        return {"tuning_plot": "", "tuning_text": "", "tuning_rows": []}
    answers = "held-out images" if curves.held_out else "images of one fold"
    text = (
        f"Each training saw the same {curves.n_train} images, and answered the same {curves.n_answers} {answers} after "
        f"every epoch. {curves.answer[:1].upper()}{curves.answer[1:]}."
    )
    rows = [{"name": name, "end": end} for name, end in curves.summary]
    return {"tuning_plot": draw(curves, "tuning", DESCRIPTION, columns=2), "tuning_text": text, "tuning_rows": rows}
