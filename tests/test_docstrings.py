"""The docstrings of the public API: numpydoc, complete, and true to the signatures."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from typing import Any

import pytest

import cnncodes

SECTIONS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "Notes", "References", "Examples")


@dataclass(frozen=True)
class Documented:
    """A public function, class or method, with its name as a user would write it."""

    name: str
    object: Any

    @property
    def docstring(self) -> str:
        return inspect.getdoc(self.object) or ""

    def section(self, title: str) -> str | None:
        """Return the text of a section, or None where there is none."""
        heads = "|".join(SECTIONS)
        match = re.search(rf"^{title}\n-{{{len(title)}}}\n(.*?)(?=^(?:{heads})\n-+\n|\Z)", self.docstring, re.M | re.S)
        return match and match[1]

    def entries(self, title: str) -> dict[str, tuple[str, str]]:
        """Return type and description by name of what a section lists; ``a, b : int`` lists two."""
        rows = re.findall(r"^(\S[^\n]*)\n((?:[ ]+[^\n]*\n?|\n(?=[ ]))*)", f"{self.section(title) or ''}\n", re.M)
        entries: dict[str, tuple[str, str]] = {}
        for head, text in rows:
            names, _, kind = head.partition(" : ")
            entries |= {name.strip().lstrip("*"): (kind, text.strip()) for name in names.split(",")}
        return entries

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        if self.object is cnncodes.CnnCodesError:
            return {}  # as of any exception
        parameters = inspect.signature(self.object).parameters
        return {name: one for name, one in parameters.items() if name not in ("self", "cls")}

    def raises_itself(self) -> bool:
        """Whether there is a `raise` in the body, but for those that pass on what was caught."""
        tree = ast.parse(textwrap.dedent(inspect.getsource(self.object)))
        return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def members_of(cls: type) -> dict[str, Any]:
    """What a class has of us: its own members, and those of the classes of ours that it extends."""
    ours = [base for base in inspect.getmro(cls) if base.__module__.startswith("cnncodes.")]
    return {name: value for base in reversed(ours) for name, value in vars(base).items()}


def public_api() -> Iterator[Documented]:
    """What `cnncodes` exports, with the public methods that its classes have of us."""
    for name in sorted(set(cnncodes.__all__) - {"__version__"}):
        thing = getattr(cnncodes, name)
        yield Documented(name, thing)
        for attribute, value in members_of(thing).items() if inspect.isclass(thing) else ():
            if attribute.startswith("_"):
                continue
            if isinstance(value, (classmethod, staticmethod)):
                value = value.__func__
            if inspect.isfunction(value):
                yield Documented(f"{name}.{attribute}", value)


API = {one.name: one for one in public_api()}


def faults_of(one: Documented) -> Iterator[str]:
    """What a docstring lacks, or says wrongly."""
    title = "Attributes" if is_dataclass(one.object) and one.section("Parameters") is None else "Parameters"
    described = one.entries(title)
    if missing := [name for name in one.parameters if name not in described]:
        yield f"parameters that are not described: {missing}"
    if title == "Parameters" and (unknown := [name for name in described if name not in one.parameters]):
        yield f"parameters that are not there: {unknown}"
    for name, parameter in one.parameters.items():
        kind, text = described.get(name, ("", ""))
        if name in described and not text:
            yield f"{name} is not described"
        elif other := re.match(r"As (?:for|in) `(\w+)`", text):
            yield from _faults_of_reference(one, parameter, other[1])
        elif name in described and not kind:
            yield f"{name} has no type"
        elif name in described and title == "Parameters":
            yield from _faults_of_default(parameter, kind)
    if inspect.isfunction(one.object):
        yield from _faults_of_sections(one)
    is_error = inspect.isclass(one.object) and issubclass(one.object, Exception)
    if "." not in one.name and not is_error and ">>> " not in (one.section("Examples") or ""):
        yield "no example"


def _faults_of_reference(one: Documented, parameter: inspect.Parameter, other: str) -> Iterator[str]:
    """What is wrong with a parameter that is "as for" another public name: its default must be the same there."""
    bases = {base.__name__: base for base in inspect.getmro(one.object)} if inspect.isclass(one.object) else {}
    thing = API[other].object if other in API else bases.get(other)
    there = inspect.signature(thing).parameters.get(parameter.name) if thing is not None else None
    if there is None:
        yield f"{parameter.name}: {other} has no such parameter"
    elif there.default != parameter.default:
        yield f"{parameter.name}: its default is {parameter.default!r}, and {there.default!r} in {other}"


def _faults_of_default(parameter: inspect.Parameter, kind: str) -> Iterator[str]:
    default = parameter.default
    said = re.search(r"default=(.*)$", kind)
    if default is inspect.Parameter.empty or default is None:
        if said:
            yield f"{parameter.name} has no default, and {said[0]} is said"
        if (default is None) != ("optional" in kind or "ignored" in kind):
            yield f"{parameter.name}: optional is what may be left out, and has None as its default"
        return
    if not said:
        yield f"{parameter.name}: default={default!r} is not said"
        return
    try:
        value = ast.literal_eval(said[1].replace(",", "") if isinstance(default, (int, float)) else said[1])
    except (ValueError, SyntaxError):
        value = said[1]
    if value != default:
        yield f"{parameter.name}: default={said[1]} is said, and it is {default!r}"


def _faults_of_sections(one: Documented) -> Iterator[str]:
    returned = str(inspect.signature(one.object).return_annotation)
    first, _, rest = one.docstring.partition("\n\n")
    in_one_line = not rest and first.startswith(("Return ", "Whether "))
    if returned not in ("None", "bool") and not (in_one_line or one.section("Returns") or one.section("Yields")):
        yield "no Returns"
    if one.raises_itself() and not one.section("Raises"):
        yield "no Raises"


@pytest.mark.parametrize("name", API)
def test_a_docstring_is_complete_and_true(name: str) -> None:
    faults = list(faults_of(API[name]))
    assert not faults, "\n".join(faults)


def right(images: str, size: int = 3, name: str = "a", labels: list[str] | None = None) -> int:
    """Do nothing.

    Parameters
    ----------
    images : path
        Some images.
    size : int, default=3
        Of them.

        A second paragraph.
    name : {"a", "b"}, default="a"
        Name.
    labels : list of str, optional
        Labels.

    Returns
    -------
    int
        Nothing.

    Examples
    --------
    >>> right("photos/")  # doctest: +SKIP
    """
    return size


@pytest.mark.parametrize(
    ("text", "instead", "fault"),
    [
        ("size : int, default=3", "size : int, default=4", "default=4 is said, and it is 3"),
        ("size : int, default=3", "size : int", "size: default=3 is not said"),
        ('default="a"', 'default="b"', "is said, and it is 'a'"),
        ("images : path", "images : path, optional", "optional is what may be left out"),
        ("list of str, optional", "list of str", "optional is what may be left out"),
        ("        Some images.\n", "", "images is not described"),
        ("images : path", "image : path", "parameters that are not there: ['image']"),
        ("images : path", "image : path", "parameters that are not described: ['images']"),
        ("name : {", "name {", "parameters that are not described: ['name']"),
        ("Returns\n    -------", "Notes\n    -----", "no Returns"),
        (">>> ", "", "no example"),
        ("        Some images.", "        As for `fit`.", "images: fit has no such parameter"),
        ("        Name.", "        As for `load_backbone`.", "its default is 'a', and 'mobilenet_v2' in load_backbone"),
    ],
)
def test_a_fault_is_found(text: str, instead: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(faults_of(Documented("right", right))) == []
    assert right.__doc__ is not None
    assert text in right.__doc__
    monkeypatch.setattr(right, "__doc__", right.__doc__.replace(text, instead))
    assert any(fault in found for found in faults_of(Documented("right", right)))
