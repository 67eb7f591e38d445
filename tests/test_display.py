"""How figures are written for people: values worked out by hand, and foreign text that stays text."""

from __future__ import annotations

import json

import pytest

from cnncodes.display import (
    for_csv,
    for_html,
    for_json,
    for_terminal,
    html_table,
    interval,
    percent,
    points,
    without_csv_mark,
    would_look,
)


@pytest.mark.parametrize(("share", "text"), [(0, "0.0 %"), (1, "100.0 %"), (2 / 3, "66.7 %"), (0.00049, "0.0 %")])
def test_a_share_is_a_percentage_with_one_decimal(share: float, text: str) -> None:
    assert percent(share) == text


def test_an_interval_has_the_sign_once_and_a_page_no_break_before_it() -> None:
    assert interval(0.2999, 0.9032) == "30.0 to 90.3 %"
    assert interval(0, 1, space="\N{NO-BREAK SPACE}") == "0.0 to 100.0\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(("difference", "text"), [(0.0123, "+1.2"), (-0.2, "-20.0"), (0, "+0.0"), (-0.0004, "+0.0")])
def test_a_difference_is_in_points_with_its_sign(difference: float, text: str) -> None:
    assert points(difference) == text


def test_shares_that_are_printed_alike_are_not_compared() -> None:
    assert would_look(0.96, 0.9) == "look like 96.0 %, and not 90.0 %"
    assert would_look(0.9999, 1.0) == would_look(1.0, 1.0) == "look the same, 100.0 %"


def test_foreign_text_stays_text_in_a_table() -> None:
    table = html_table(["a & b"], [["<script>", "<b>"]], caption="<i>")
    assert "<caption>&lt;i&gt;</caption>" in table
    assert "<th>a &amp; b</th>" in table
    assert "<tr><th>&lt;script&gt;</th><td>&lt;b&gt;</td></tr>" in table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 日本 \u3000[b] :b:", "café 日本 \u3000[b] :b:"),
        ("\x1b[31m\r\n\t\0\x7f", r"\x1b[31m\r\n\t\x00\x7f"),
        ("\x9b\u202e\u2066\u200b\ufeff\u2028", r"\x9b\u202e\u2066\u200b\ufeff\u2028"),
        ("\udcff\U000e0041", r"\udcff\U000e0041"),
        ("👩\u200d🔬 नमस्\u200dते", "👩\u200d🔬 नमस्\u200dते"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_a_terminal_shows_what_would_act_on_it(text: str, shown: str) -> None:
    assert for_terminal(text) == shown


def test_html_keeps_lines_and_takes_no_tags() -> None:
    assert for_html('<a href="x">\'&\n\u202e\x1b') == "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;\n\\u202e\\x1b"


@pytest.mark.parametrize("text", ["=1+1", "=cmd|' /C calc'!A0", "@SUM(1)", "+cmd|x", "\t=1+1", "-2+3+cmd|x", "=\r\n1"])
def test_a_formula_gets_an_apostrophe_in_csv(text: str) -> None:
    assert for_csv(text) == f"'{text}"
    assert without_csv_mark(for_csv(text)) == text


@pytest.mark.parametrize("text", ["", "-1", "+1.5", "=", "+", "@eaDir/a.png", "-x.png", "a=1", "\x1b\r\n", "'x"])
def test_other_text_is_exact_in_csv(text: str) -> None:
    assert for_csv(text) == text


def test_json_reads_back_and_acts_on_no_terminal() -> None:
    value = {"\u202e": ["\x1b\x9b\x7f", "é\u3000\U000e0041\udcff", 1, None]}
    text = for_json(value)
    assert json.loads(text) == value
    assert "é\u3000" in text
    assert all(char.isprintable() or char in "\n\u3000" for char in text)
