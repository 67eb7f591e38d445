"""Curves of fine-tuning as files and as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.cli.output import check_plot, save_plot
from cnncodes.display import interval, percent

if TYPE_CHECKING:
    from cnncodes.finetuning.curves import Curves

__all__ = ["check_curves", "curves_lines", "save_curves"]

POINTS_SUFFIX = ".json"  # of a file of points; others are plots


def check_curves(files: Sequence[str], **checks: Any) -> None:
    """Raise if curves cannot be written to one of these files; called before the work, so that no time is lost."""
    from cnncodes.finetuning.curves import CURVES, is_curves
    from cnncodes.system.files import refuse_foreign

    for path in files:
        if _has_points(path):
            refuse_foreign(path, CURVES, is_curves, **checks)
        else:
            check_plot(path, **checks)


def save_curves(curves: Curves | None, files: Sequence[str], *, overwrite: bool) -> None:
    """Write curves to files, each as its suffix says."""
    if curves is None:
        return
    for path in files:
        if _has_points(path):
            curves.save(path, overwrite=overwrite)
        else:
            save_plot(curves.plot()[0], path)


def curves_lines(curves: Curves | None) -> list[tuple[str, str]]:
    """Return what each training came to, and what the frozen network saves."""
    if curves is None:
        return []
    lines = [
        (name, f"{percent(end.accuracy)} ({interval(end.low, end.high)}) after {end.seconds:.1f} s, {end.epoch} epochs")
        for name, end in curves.summary
    ]
    what = "held-out images" if curves.held_out else "images of the first fold"
    return [*lines, ("answered", f"{curves.n_answers} {what}"), ("saving", curves.answer)]


def _has_points(path: str) -> bool:
    return Path(path).suffix.lower() == POINTS_SUFFIX
