"""The house rules: imports point strictly down, names say a duty, and importing has no effect."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import cnncodes

PACKAGE = Path(cnncodes.__file__).resolve().parent
TABLE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc"}
HEAVY = ("numpy", "torch", "torchvision", "sklearn", "timm", "h5py", "matplotlib", "pandas")
# What must not be loaded with these modules, so that the commands which need only them start at once.
LIGHT_MODULES = {
    "images": ("torch", "torchvision", "sklearn"),
    "codes": ("torch", "torchvision", "sklearn"),
    "fitting": ("torch", "torchvision"),  # and with it models, evaluation, probes and solvers
    "evaluating": ("torch", "torchvision"),
    "backbones": ("torchvision", "timm", "sklearn"),
}

needs_cli = pytest.mark.skipif(not (PACKAGE / "cli.py").exists(), reason="there is no command line yet")


def room_of(path: Path) -> str:
    """The module or, for a file of a subpackage, the subpackage: what has a floor."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) not in {"__init__", "data"})
ROOMS = sorted({room_of(path) for path in SOURCES})


def read_floors(table: str) -> dict[str, float]:
    rows = re.findall(r"^\| *([\d.]+) *\| *`(\w+)(?:\.py|/)` *\|", table, re.M)
    assert len({room for _, room in rows}) == len(rows), "a module has two floors"
    return {room: float(floor) for floor, room in rows}


@pytest.fixture(scope="module")
def floors() -> dict[str, float]:
    return read_floors(TABLE.read_text(encoding="utf-8"))


def imported(tree: ast.AST, rooms: set[str], type_only: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Yield (room, line, whether only types need it) of whatever of ours a module uses, at any depth."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from imported(ast.Module(node.body, []), rooms, type_only=True)
            yield from imported(ast.Module(node.orelse, []), rooms, type_only)
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = f"cnncodes.{node.module or ''}".rstrip(".") if node.level else node.module
            names = [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cnncodes":
            names = [f"cnncodes.{node.attr}"]
        for name in names:
            package, _, rest = name.partition(".")
            first = rest.partition(".")[0]
            # `cnncodes.extract` is a function that lives in `extraction`; `cnncodes.__version__` has no room.
            if package == "cnncodes" and (room := cnncodes._HOMES.get(first, first)) in rooms:
                yield room, getattr(node, "lineno", 0), type_only
        yield from imported(node, rooms, type_only)


def wrong_imports(room: str, source: str, floors: dict[str, float]) -> list[str]:
    wrong = []
    for other, line, type_only in imported(ast.parse(source), set(floors)):
        if other == room:
            continue
        # A type creates no dependency at run time, so it may come from the same floor, but not from above.
        if not (floors[other] < floors[room] or (type_only and floors[other] == floors[room])):
            wrong.append(f"{room} (floor {floors[room]:g}), line {line}: imports {other} (floor {floors[other]:g})")
    return wrong


def run_python(code: str, folder: Path) -> str:
    """Run code in a new process, with an empty folder as working directory, home and cache."""
    environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(PACKAGE.parent)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_module_has_a_floor(room, floors):
    assert room in floors, f"cnncodes/{room} has no floor: add a row for it to the table of floors in CONTRIBUTING.md"


def test_each_row_of_the_table_is_a_module(floors):
    assert sorted(floors) == ROOMS, "the table of floors in CONTRIBUTING.md and the modules in cnncodes/ differ"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_strictly_down(path, floors):
    room = room_of(path)
    known = {**dict.fromkeys(ROOMS, float("inf")), **floors}
    assert not (wrong := wrong_imports(room, path.read_text(encoding="utf-8"), known)), "\n".join(wrong)


def test_package_itself_imports_nothing_of_ours():
    assert not list(imported(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")), set(ROOMS)))


@pytest.mark.parametrize(
    ("source", "finds"),
    [
        ("from cnncodes.above import x", True),
        ("import cnncodes.above", True),
        ("from cnncodes import above", True),
        ("from .above import x", True),
        ("from . import above", True),
        ("def f():\n    from cnncodes.above import x", True),
        ("from cnncodes.beside import x", True),
        ("import cnncodes\ncnncodes.above.x()", True),
        ("if TYPE_CHECKING:\n    from cnncodes.above import x", True),
        ("if TYPE_CHECKING:\n    from cnncodes.beside import x", False),
        ("from cnncodes.below import x", False),
        ("from cnncodes import __version__\nimport above", False),
    ],
)
def test_a_wrong_import_is_found(source, finds):
    assert bool(wrong_imports("here", source, {"below": 1, "here": 2, "beside": 2, "above": 3})) is finds


def test_a_public_name_counts_as_its_module():
    floors = {"errors": 0, "extraction": 3}
    assert wrong_imports("errors", "from cnncodes import extract", floors)


def test_table_is_read():
    table = "| floor | module | duty |\n|---|---|---|\n| 2.5 | `runtime.py` | fast |\n| 3 | `report/` | pages |\n"
    assert read_floors(table) == {"runtime": 2.5, "report": 3}


@pytest.mark.parametrize("room", ROOMS)
def test_name_says_a_duty(room):
    assert not FORBIDDEN_NAMES & set(room.split("_")), f"cnncodes/{room}: name the module after its one duty"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_command_line_prints(path):
    calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    assert "print" not in {function.id for function in calls if isinstance(function, ast.Name)}


def test_public_names_are_where_they_are_said_to_be():
    assert set(cnncodes._HOMES.values()) <= set(ROOMS)
    for name in cnncodes.__all__:
        assert getattr(cnncodes, name) is not None


def test_import_cnncodes_loads_nothing_heavy(tmp_path):
    code = f"import sys, cnncodes; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code, tmp_path).strip() == "[]"


@needs_cli
def test_help_loads_nothing_heavy(tmp_path):
    code = f"""
import sys
import tomllib
from cnncodes.cli import main
commands = main.list_commands(None)
for command in [[], *([name] for name in commands)]:
    main.main([*command, "--help"], standalone_mode=False, prog_name="cnncodes")
print(len(commands), [name for name in {HEAVY} if name in sys.modules])
"""
    assert re.fullmatch(r"[1-9]\d* \[\]", run_python(code, tmp_path).splitlines()[-1])


@pytest.mark.parametrize(("room", "unwanted"), LIGHT_MODULES.items(), ids=LIGHT_MODULES)
def test_module_loads_without(room, unwanted, tmp_path):
    if importlib.util.find_spec(f"cnncodes.{room}") is None:
        pytest.skip(f"there is no cnncodes.{room} yet")
    code = f"import sys, cnncodes.{room}; print([name for name in {unwanted} if name in sys.modules])"
    assert run_python(code, tmp_path).strip() == "[]"


def test_importing_every_module_leaves_no_file_and_prints_nothing(tmp_path):
    modules = ", ".join(f"cnncodes.{room}" for room in ROOMS if room != "__main__")
    assert run_python(f"import {modules}", tmp_path) == ""
    assert list(tmp_path.rglob("*")) == []


def test_each_lower_bound_has_its_reason_and_no_upper_one_is_set():
    project = tomllib.loads((TABLE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = [
        *project["dependencies"],
        *(bound for extra in ("notebook", "report", "timm") for bound in project["optional-dependencies"][extra]),
        f"python{project['requires-python']}",
    ]
    reasons = re.findall(r"^\| *`([\w-]+>=[\d.]+)` *\| *\S", TABLE.read_text(encoding="utf-8"), re.M)
    bounds.remove("cnncodes[report]")
    assert sorted(bounds) == sorted(reasons), "pyproject.toml and the table of lower bounds in CONTRIBUTING.md differ"


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((TABLE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        re.split(r"[^\w-]", requirement)[0].lower()
        for requirement in [*project["dependencies"], *extras["timm"], *extras["report"]]
    }
    distributions = packages_distributions()
    missing: dict[str, str] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"cnncodes"}:
                if not declared & {one.lower() for one in distributions.get(name, [name])}:
                    missing.setdefault(name, path.name)
    assert not missing
