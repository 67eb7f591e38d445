"""How figures are written for people: values worked out by hand, and foreign text that stays text."""

from __future__ import annotations

import pytest

from cnncodes.display import html_table, interval, percent, points


@pytest.mark.parametrize(("share", "text"), [(0, "0.0 %"), (1, "100.0 %"), (2 / 3, "66.7 %"), (0.00049, "0.0 %")])
def test_a_share_is_a_percentage_with_one_decimal(share: float, text: str) -> None:
    assert percent(share) == text


def test_an_interval_has_the_sign_once_and_a_page_no_break_before_it() -> None:
    assert interval(0.2999, 0.9032) == "30.0 to 90.3 %"
    assert interval(0, 1, space="\N{NO-BREAK SPACE}") == "0.0 to 100.0\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(("difference", "text"), [(0.0123, "+1.2"), (-0.2, "-20.0"), (0, "+0.0")])
def test_a_difference_is_in_points_with_its_sign(difference: float, text: str) -> None:
    assert points(difference) == text


def test_foreign_text_stays_text_in_a_table() -> None:
    table = html_table(["a & b"], [["<script>", "<b>"]], caption="<i>")
    assert "<caption>&lt;i&gt;</caption>" in table
    assert "<th>a &amp; b</th>" in table
    assert "<tr><th>&lt;script&gt;</th><td>&lt;b&gt;</td></tr>" in table
