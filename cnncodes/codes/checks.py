"""Checks of the fields of a record in JSON; what is wrong is refused in one short line that names the field."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from cnncodes.errors import MismatchError

__all__ = [
    "Check",
    "cut",
    "digest",
    "exactly",
    "flag",
    "integer",
    "list_of",
    "number",
    "optional",
    "positive",
    "refusal",
    "refuse_odd_text",
    "table_of",
    "text",
]

MESSAGE_CHARACTERS = 200  # of a message that names a wrong field; the path of the file is added to it
ODD = re.compile("[\0\ud800-\udfff]")  # NUL, and surrogates, which UTF-8 does not have
NO_TEXT = (int, float, type(None))
SHA256 = re.compile(r"[0-9a-f]{64}")

Check = Callable[[str, Any], Any]  # takes the name of a field and its value in JSON; returns the value in Python


def cut(message: str) -> str:
    """Return a message on one line, cut if a name in it is long."""
    line = " ".join(ODD.sub("?", message[: 2 * MESSAGE_CHARACTERS]).split())
    return line if len(line) <= MESSAGE_CHARACTERS else f"{line[: MESSAGE_CHARACTERS - 1]}…"


def refusal(message: str) -> MismatchError:
    """Return an error of one line, cut if a name in it is long."""
    return MismatchError(cut(message))


def refuse_odd_text(record: Any) -> None:
    """Raise `MismatchError` if a text anywhere in a record, as JSON holds it, is none that a file can hold."""
    left = [("", record)]
    while left:
        name, value = left.pop()
        if isinstance(value, str):
            if ODD.search(value):
                raise refusal(f"{name.lstrip('.')} is {reprlib.repr(value)}, expected text without NUL and surrogates")
        elif isinstance(value, (list, tuple)):
            items = [(i, item) for i, item in enumerate(value) if not isinstance(item, NO_TEXT)]
            left += [(f"{name}[{i}]"[-MESSAGE_CHARACTERS:], item) for i, item in items]
        elif isinstance(value, Mapping):
            items = [(key, item) for key, item in value.items() if not isinstance(item, NO_TEXT)]
            left += [(f"{name}.{key}"[-MESSAGE_CHARACTERS:], item) for key, item in items]
            names = f"a name in {name or '.'}"
            left += [(names, key) for key in value]


def exactly(kind: type, expected: str, good: Callable[[Any], bool] = lambda value: True) -> Check:
    """Check that a value has exactly this type (a bool is no int) and is good."""

    def check(name: str, value: Any) -> Any:
        if type(value) is not kind or not good(value):
            raise refusal(f"{name} is {reprlib.repr(value)}, expected {expected}")
        return value

    return check


def optional(check: Check) -> Check:
    """Let None pass, too."""
    return lambda name, value: None if value is None else check(name, value)


def list_of(item: Check, length: int | None = None) -> Check:
    """Check each item of a list, which becomes a tuple."""

    def check(name: str, values: Any) -> tuple[Any, ...]:
        if not isinstance(values, (list, tuple)) or length not in (None, len(values)):
            raise refusal(f"{name} is {reprlib.repr(values)}, expected a list{f' of {length}' if length else ''}")
        return tuple(item(f"{name}[{i}]", value) for i, value in enumerate(values))

    return check


def table_of(item: Check) -> Check:
    """Check each value of a table."""

    def check(name: str, values: Any) -> dict[str, Any]:
        if not isinstance(values, Mapping):
            raise refusal(f"{name} is {reprlib.repr(values)}, expected a table")
        return {key: item(f"{name}.{key}", value) for key, value in values.items()}

    return check


def number(name: str, value: Any) -> Any:
    """Check an int or a float."""
    if type(value) not in (int, float):
        raise refusal(f"{name} is {reprlib.repr(value)}, expected a number")
    return value


text = exactly(str, "text")
flag = exactly(bool, "true or false")
integer = exactly(int, "an integer")
positive = exactly(int, "a positive integer", lambda value: value > 0)
digest = exactly(str, "the 64 hexadecimal digits of a SHA-256", lambda value: bool(SHA256.fullmatch(value)))
