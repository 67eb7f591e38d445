"""What the tests of pages share: hostile names, answers made up, and what is read out of a page."""

from __future__ import annotations

import html.parser
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np

from cnncodes.models.evaluation import EvaluationResult
from cnncodes.pages.answers import Answers

HOSTILE = "</script><script>alert(1)</script>"
ODD_NAME = 'it\'s "a" <img src=x onerror=alert(2)> & {{ 7 * 7 }} 0.png'


class Scripts(html.parser.HTMLParser):
    """Collects what is in the script elements, and all attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self.inside = tag == "script"
        if self.inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def answers_of(y: np.ndarray, predicted: np.ndarray, rows: np.ndarray, confidence: np.ndarray) -> Answers:
    result = EvaluationResult(y, predicted, sorted({*y, *predicted}), 0.5, {}, 0.0)
    return Answers(rows, result, confidence, True, [])


def commands_of(text: str) -> list[list[str]]:
    block = re.search(r"<pre><code>(.*?)</code>", text, re.DOTALL)
    assert block is not None
    return [shlex.split(line) for line in unescape(block[1]).strip().splitlines()]


def open_page(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str], list[str]]:
    """Open a page; return it, the complaints so far, and what it asked for."""
    page = browser.new_context(**options).new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    return page, complaints, asked
