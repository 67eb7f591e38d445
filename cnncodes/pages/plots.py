"""Draws plots as SVG in the colours of the page, which may be light or dark."""

from __future__ import annotations

import io
import re
from typing import Any, Protocol

from cnncodes.system.optional import require

__all__ = ["COLOURS", "draw"]

# The palette of Okabe, Ito 2008, which colour-blind people can tell apart, too; with grey in place of black
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8a8a8a", "#f0e442")
INK = "#010203"  # replaced by the text colour of the page
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a $ in a name is a dollar sign
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
}


class Drawable(Protocol):
    """A result that draws itself on matplotlib axes."""

    def plot(self, ax: Any = None) -> Any: ...


def draw(result: Drawable, name: str, description: str, *, columns: int = 1) -> str:
    """Return a plot as the text of an SVG element.

    Parameters
    ----------
    result : object with ``plot(ax)``
        What is drawn, as `Advice.comparison`.
    name : str
        Prefix of every id in the SVG, so that the ids of two plots on a page differ.
    description : str
        What the plot shows, for readers who cannot see it.
    columns : int, default=1
        Axes side by side that the result draws on, with one vertical axis for all.

    Returns
    -------
    Markup
        An SVG element, which a template does not escape.

    Raises
    ------
    MissingLibraryError
        matplotlib is missing.
    """
    require("matplotlib", "a report")
    from cycler import cycler
    from markupsafe import Markup, escape
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**SETTINGS, "svg.hashsalt": name, "axes.prop_cycle": cycler(color=COLOURS)}):
        figure = Figure(figsize=(7.4, 3.9), layout="constrained")
        result.plot(figure.subplots(1, columns, sharey=True))
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = (
        re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
        .replace(INK, "currentColor")
        .replace(COLOURS[0], "var(--accent)")
    )
    svg = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font-size: \1px", svg)
    label = f'<svg role="img" aria-label="{escape(description)}"'
    return Markup(svg.replace("<svg", label, 1))
