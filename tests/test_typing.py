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


def check(path: Path, folder: Path) -> list[str]:
    """Return what mypy finds in a file, but for what comes from other libraries."""
    (folder / "mypy.ini").write_text(CONFIGURATION, encoding="utf-8")
    options = ["--config-file", folder / "mypy.ini", "--cache-dir", folder / "cache", "--no-error-summary"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, path],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr
    lines = run.stdout.splitlines()
    return [
        line for line in lines if "contains" not in line or re.search(r"\bAny\b(?!\")", ANY_OF_OTHERS.sub("", line))
    ]


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
def test_public_api_is_typed(tmp_path: Path) -> None:
    assert check(USAGE, tmp_path) == []


@pytest.mark.slow
def test_a_wrong_use_is_found(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(
        "import cnncodes\n"
        "cnncodes.extrct('photos/')\n"
        "cnncodes.fit('codes.h5', folds=5)\n"
        "cnncodes.load_images(3)\n"
        "print(cnncodes.fit('codes.h5').scores['n'])\n"
    )
    lines = [int(re.search(r":(\d+): error", line)[1]) for line in check(path, tmp_path) if "error" in line]  # type: ignore[index]
    assert sorted(set(lines)) == [2, 3, 4, 5]
