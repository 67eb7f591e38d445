"""Checks let good values pass as they are, and refuse others in one line that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from cnncodes.codes import checks
from cnncodes.errors import MismatchError

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (checks.text, "é", "é"),
        (checks.flag, False, False),
        (checks.integer, -3, -3),
        (checks.positive, 1, 1),
        (checks.digest, DIGEST, DIGEST),
        (checks.number, 3, 3),
        (checks.number, 0.5, 0.5),
        (checks.optional(checks.text), None, None),
        (checks.list_of(checks.integer), [1, 2], (1, 2)),
        (checks.list_of(checks.integer, 2), (1, 2), (1, 2)),
        (checks.table_of(checks.flag), {"a": True}, {"a": True}),
    ],
)
def test_a_good_value_passes(check: checks.Check, value: Any, expected: Any) -> None:
    checked = check("field", value)
    assert (checked, type(checked)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (checks.text, b"x", "field is b'x', expected text"),
        (checks.flag, 0, "field is 0, expected true or false"),
        (checks.integer, True, "field is True, expected an integer"),
        (checks.integer, 3.0, "field is 3.0, expected an integer"),
        (checks.positive, 0, "field is 0, expected a positive integer"),
        (checks.digest, DIGEST[1:], "field is '123456789abc...3456789abcdef', expected the 64 hexadecimal digits"),
        (checks.digest, DIGEST + "\n", "field is '0123456789ab"),
        (checks.number, True, "field is True, expected a number"),
        (checks.number, None, "field is None, expected a number"),
        (checks.optional(checks.text), 3, "field is 3, expected text"),
        (checks.list_of(checks.integer), "12", "field is '12', expected a list"),
        (checks.list_of(checks.integer, 3), [1, 2], "field is [1, 2], expected a list of 3"),
        (checks.list_of(checks.integer), [1, "2"], "field[1] is '2', expected an integer"),
        (checks.table_of(checks.flag), [True], "field is [True], expected a table"),
        (checks.table_of(checks.flag), {"a": None}, "field.a is None, expected true or false"),
    ],
)
def test_another_value_is_refused(check: checks.Check, value: Any, message: str) -> None:
    with pytest.raises(MismatchError) as caught:
        check("field", value)
    assert str(caught.value).startswith(message)


def test_a_refusal_is_one_line_of_bounded_length() -> None:
    assert str(checks.refusal("a\n  b\tc")) == "a b c"
    assert str(checks.refusal("x" * 200)) == "x" * 200
    assert str(checks.refusal("x" * 201)) == "x" * 199 + "…"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"a": [{"b": "x\0"}]}, "a[0].b is 'x\\x00', expected text without NUL and surrogates"),
        ({"classes": ["x", "\ud800"]}, "classes[1] is '\\ud800', expected text"),
        ({"a": {"\udcff": 1}}, "a name in .a is '\\udcff', expected text"),
    ],
)
def test_text_that_no_file_can_hold_is_refused_wherever_it_is(record: Any, message: str) -> None:
    with pytest.raises(MismatchError) as caught:
        checks.refuse_odd_text(record)
    assert str(caught.value).startswith(message)
    checks.refuse_odd_text({"a": ["é\x1b\u202e", {"b": (None, 1, "")}]})
