"""Type checkers know the whole public API: every public name is used in typed/usage.py, and no type is lost."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cnncodes

ROOT = Path(__file__).resolve().parent.parent
USAGE = ROOT / "tests" / "typed" / "usage.py"
# Numpy's own arguments of an array type, and a class whose fields have values for JSON.
ANY_OF_OTHERS = re.compile(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[Any\]\]|type\[ProbeModel\]")
CONFIGURATION = """
[mypy]
strict = True
disallow_any_expr = True
follow_imports = silent
"""


WRONG = """import cnncodes
cnncodes.extrct('photos/')
cnncodes.fit('codes.h5', folds=5)
cnncodes.load_images(3)
print(cnncodes.fit('codes.h5').scores['n'])
"""


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy finds in a file by the file's name, but for what comes from other libraries; one run for both files."""
    folder = tmp_path_factory.mktemp("mypy")
    wrong = folder / "wrong.py"
    wrong.write_text(WRONG, encoding="utf-8")
    (folder / "mypy.ini").write_text(CONFIGURATION, encoding="utf-8")
    options = ["--config-file", folder / "mypy.ini", "--cache-dir", folder / "cache", "--no-error-summary"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, USAGE, wrong],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr
    lines = [
        line
        for line in run.stdout.splitlines()
        if "contains" not in line or re.search(r"\bAny\b(?!\")", ANY_OF_OTHERS.sub("", line))
    ]
    of_wrong = [line for line in lines if "wrong.py:" in line]
    return {"usage": [line for line in lines if line not in of_wrong], "wrong": of_wrong}


def test_every_public_name_is_used() -> None:
    names = {node.id for node in ast.walk(ast.parse(USAGE.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    assert set(cnncodes._HOMES) <= names


def test_no_public_parameter_takes_anything() -> None:
    """But for scikit-learn's own: the tables of `DenseLinearSVC.fit` may be sparse, or frames."""
    untyped = set()
    for name in cnncodes._HOMES:
        thing = getattr(cnncodes, name)
        methods = {f"{name}.{method}": value for method, value in vars(thing).items()} if inspect.isclass(thing) else {}
        for place, value in {name: thing, **methods}.items():
            function = getattr(value, "__func__", value)
            if inspect.isfunction(function) and "._" not in place and not place.startswith("Dense"):
                hints = function.__annotations__.items()
                untyped |= {f"{place}.{parameter}" for parameter, hint in hints if hint == "Any"}
    assert not untyped


@pytest.mark.slow
def test_public_api_is_typed(findings: dict[str, list[str]]) -> None:
    assert findings["usage"] == []


@pytest.mark.slow
def test_a_wrong_use_is_found(findings: dict[str, list[str]]) -> None:
    errors = [line for line in findings["wrong"] if "error" in line]
    assert sorted({int(re.search(r":(\d+): error", line)[1]) for line in errors}) == [2, 3, 4, 5]  # type: ignore[index]
