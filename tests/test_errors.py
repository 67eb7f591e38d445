"""The classes of errors."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import cnncodes
from cnncodes import errors
from cnncodes.errors import CnnCodesError

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
