"""Draws plots as SVG that takes the colours of the page, in the light and in the dark."""

from __future__ import annotations

import io
import re
from typing import Any, Protocol

from cnncodes.system.optional import require

__all__ = ["COLOURS", "draw"]

# Told apart by the colour-blind as well: Okabe, Ito 2008, with grey in the place of black
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8a8a8a", "#f0e442")
INK = "#010203"  # stands for the colour of the text, wherever the plot is shown
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
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
    """A result that draws itself on axes of matplotlib."""

    def plot(self, ax: Any = None) -> Any: ...


def draw(what: Drawable, name: str, description: str) -> str:
    """Return a plot as the text of an SVG element.

    Parameters
    ----------
    what : object with ``plot(ax)``
    name : str
        Begins every id, so that plots on one page do not mix theirs up.
    description : str
        What the plot shows, for those who do not see it.

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
        what.plot(figure.subplots())
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
