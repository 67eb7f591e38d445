"""`cnncodes report`: the page is written, and the answer said."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import run


def test_the_command_writes_a_file_and_says_the_answer(there: Path) -> None:
    words = ["report", "--no-advice", "--no-audit", "-o", "page.html", "--points", 20, "--json"]
    made = json.loads(run(*words).stdout)
    assert (made["n"], made["held_out"], made["pictures"]) == (15, True, 36)
    text = (there / "page.html").read_text(encoding="utf-8")
    assert made["answer"] in text
    assert "The map shows 20 of 45 images, chosen at random" in text
