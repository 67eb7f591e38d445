"""Pages: nothing gets out of its quotes, and nothing is fetched."""

from __future__ import annotations

import json
import re
from pathlib import Path

from report_parts import HOSTILE, ODD_NAME, Scripts

from cnncodes.pages.report import report


def test_nothing_gets_out_of_its_quotes(hostile: tuple[Path, Path]) -> None:
    made = report(hostile[1], images=hostile[0], advice=False, audit=False)
    page = Scripts(made.html)
    assert len(page.texts) == 3  # the data, and two scripts of ours
    data = json.loads(page.texts[0])
    assert HOSTILE in data["classes"]
    assert ODD_NAME in {image["id"] for image in data["images"]}
    assert "alert(" not in page.texts[1] + page.texts[2]
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    assert "onerror=alert(2)> &" not in made.html
    assert HOSTILE not in made.html
    assert "{{ 7 * 7 }}" in made.html  # and not 49
    assert made.pictures == 30


def test_a_page_asks_nothing_of_any_other(hostile: tuple[Path, Path]) -> None:
    text = report(hostile[1], images=hostile[0], advice=False, audit=False).html
    places = [value or "" for name, value in Scripts(text).attributes if name in ("src", "href", "xlink:href")]
    assert all(place.startswith(("#", "data:image/webp;base64,")) for place in places), places
    assert all(url.startswith(("data:image/webp;base64,", "#")) for url in re.findall(r"url\(([^)]*)\)", text))
    assert "default-src &#x27;none&#x27;" in text
    assert "@import" not in text
