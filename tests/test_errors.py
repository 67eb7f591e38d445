"""The classes of errors, and what is told of the errors of others."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from unittest.mock import Mock

import pytest

import cnncodes
from cnncodes import errors
from cnncodes.errors import CnnCodesError, DeviceError, first_line
from cnncodes.runtime.devices import resolve_device

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_is_public_documented_and_ours(kind: type[Exception]) -> None:
    assert kind.__name__ in errors.__all__
    assert kind.__doc__
    assert issubclass(kind, CnnCodesError)


def test_each_class_is_raised() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(cnncodes.__file__).parent.rglob("*.py"))
    bases = {base for kind in CLASSES for base in kind.__bases__}
    for kind in set(CLASSES) - bases:
        assert re.search(rf"(raise|return) {kind.__name__}\b", sources), kind


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("no kernel image\nCompile with ..."), "no kernel image"),
        (ValueError("\n  at the second line\n"), "at the second line"),
        (AssertionError(), "AssertionError"),
        (OSError(" \n "), "OSError"),
    ],
)
def test_the_first_line_of_an_error_is_never_empty(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_a_device_that_fails_without_a_word_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.empty", Mock(side_effect=AssertionError()))
    with pytest.raises(DeviceError, match=r"device 'cuda:9' cannot be used here \(AssertionError\); try device='auto'"):
        resolve_device("cuda:9")
