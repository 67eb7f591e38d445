"""Plots as SVG: ids of their own, the colours of the page, no date."""

from __future__ import annotations

import re
from typing import Any

from cnncodes.pages.plots import draw


def test_a_plot_has_its_own_ids_the_colours_of_the_page_and_no_date() -> None:
    class Line:
        def plot(self, ax: Any = None) -> None:
            ax.plot([1, 2], [3, 4], label="<a>")
            ax.legend()

    svg = draw(Line(), "layers", 'says "it" <all>')
    assert svg == draw(Line(), "layers", 'says "it" <all>')
    assert 'aria-label="says &#34;it&#34; &lt;all&gt;"' in svg
    ids, used = (set(re.findall(pattern, svg)) for pattern in (r'\bid="([^"]*)"', r"#([\w-]+)[\")]"))
    assert ids
    assert used <= ids
    assert all(name.startswith("layers-") for name in ids)
    assert "currentColor" in svg
    assert not re.search(r"<metadata|<style|20\d\d-\d\d", svg)
    assert "&lt;a&gt;" in svg
