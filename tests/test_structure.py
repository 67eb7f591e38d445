"""The rules of the house: rooms on floors, imports that point down, names that say a duty, imports without effect."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

import cnncodes

PACKAGE = Path(cnncodes.__file__).resolve().parent
TABLE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc"}
HEAVY = ("numpy", "torch", "torchvision", "sklearn", "timm", "h5py", "matplotlib", "pandas")
# What must not be loaded with these modules, so that the commands which need only them start at once.
LIGHT_MODULES = {
    "images.loading": ("torch", "torchvision", "sklearn"),
    "codes.file": ("torch", "torchvision", "sklearn"),
    "cli.main": ("numpy", "importlib.metadata"),
    "models.fit": ("torch", "torchvision"),  # and with it all of probes/ and solvers/
    "models.evaluate": ("torch", "torchvision"),
    "models.predict": ("torch", "torchvision", "sklearn", "scipy"),
    "extraction.in_memory": ("torchvision", "sklearn", "scipy", "joblib"),  # to label one image
    "networks.loading": ("torchvision", "timm", "sklearn"),
}
VERBS = (
    *("advise", "audit", "compare", "evaluate", "export", "extract", "finetune", "fit"),
    *("merge", "predict", "report", "similar", "verify"),
)


def module_of(path: Path) -> str:
    """The dotted name below `cnncodes`; that of a folder for its `__init__.py`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """The folder, or the module itself where it lies in none: what has a floor."""
    return module.partition(".")[0]


SOURCES = {
    module_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py" and path.relative_to(PACKAGE).parts[0] != "data"
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in SOURCES.items()}
ROOMS = sorted({room_of(module) for module in SOURCES})


class Import(NamedTuple):
    """A module of ours that another one imports, and the name that it takes from it, if any."""

    module: str
    name: str
    line: int
    type_only: bool


def read_floors(table: str) -> dict[str, int]:
    rows = re.findall(r"^\| *(\d+) *\| *`(\w+)(?:\.py|/)` *\|", table, re.M)
    assert len({room for _, room in rows}) == len(rows), "a room has two floors"
    return {room: int(floor) for floor, room in rows}


@pytest.fixture(scope="module")
def floors() -> dict[str, int]:
    return read_floors(TABLE.read_text(encoding="utf-8"))


def imports_of(tree: ast.AST, modules: set[str], *, type_only: bool = False) -> Iterator[Import]:
    """Whatever of ours a module uses, at any depth."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from imports_of(ast.Module(node.body, []), modules, type_only=True)
            yield from imports_of(ast.Module(node.orelse, []), modules, type_only=type_only)
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cnncodes":
            names = [f"cnncodes.{node.attr}"]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "cnncodes" and (found := _resolve(rest, modules)):
                yield Import(*found, getattr(node, "lineno", 0), type_only)
        yield from imports_of(node, modules, type_only=type_only)


def _resolve(name: str, modules: set[str]) -> tuple[str, str] | None:
    """Split a dotted name into a module and a name in it; public names count as where they are defined."""
    first = room_of(name)
    if first in cnncodes._HOMES and not any(module == first or module.startswith(f"{first}.") for module in modules):
        return cnncodes._HOMES[first], first
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        if (module := ".".join(parts[:n])) in modules:
            return module, ".".join(parts[n:])
    return None


def wrong_imports(module: str, tree: ast.AST, floors: dict[str, int], modules: set[str]) -> list[str]:
    """Imports from the same floor or a higher one, and of names that are another room's own business."""
    wrong, room = [], room_of(module)
    for other in imports_of(tree, modules):
        there = room_of(other.module)
        where = f"{module}, line {other.line}: imports {other.module}"
        if there == room:
            continue
        # A type creates no dependency at run time, so it may come from the same floor, but not from above.
        if not (floors[there] < floors[room] or (other.type_only and floors[there] == floors[room])):
            wrong.append(f"{where} (floor {floors[there]}) from floor {floors[room]}")
        if any(part.startswith("_") for part in f"{other.module}.{other.name}".split(".")) and "__" not in other.name:
            wrong.append(f"{where}.{other.name}, which is private there")
    return wrong


def circle_in(edges: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle of imports, or none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done:
            for other in sorted(edges.get(module, ())):
                if found := visit(other, [*path, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in sorted(edges) if (found := visit(module, []))), [])


def run_python(code: str, folder: Path) -> str:
    """Run code in a new process, with an empty folder as working directory, home and cache."""
    environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(PACKAGE.parent)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


# ---------------------------------------------------------------------------------------------------------- the rooms


def test_the_table_names_each_room_once(floors):
    assert sorted(floors) == ROOMS, "the table of rooms in CONTRIBUTING.md and the folders in cnncodes/ differ"


def test_rooms_are_one_level_deep():
    assert not [module for module in SOURCES if module.count(".") > 1]


def test_imports_point_down_and_take_nothing_private(floors):
    known = {**dict.fromkeys(ROOMS, 1000), **floors}
    wrong = [line for module, tree in TREES.items() for line in wrong_imports(module, tree, known, set(SOURCES))]
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_imports():
    edges = {
        module: {other.module for other in imports_of(tree, set(SOURCES))} - {module}  # those of types among them
        for module, tree in TREES.items()
    }
    assert not circle_in(edges)


def test_a_room_says_what_it_is_for_and_imports_nothing():
    for room in (room for room in ROOMS if (PACKAGE / room).is_dir()):
        assert ast.get_docstring(TREES[room]), room
        assert len(TREES[room].body) == 1, room


def test_solvers_import_nothing_of_ours_but_errors():
    others = {
        other.module
        for module in SOURCES
        if room_of(module) == "solvers"
        for other in imports_of(TREES[module], set(SOURCES))
    }
    assert {module for module in others if room_of(module) != "solvers"} == {"errors"}


def test_package_itself_imports_nothing_of_ours():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert not [one for one in imports_of(tree, set(SOURCES)) if not one.type_only]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_a_module_of_its_name(verb):
    assert cnncodes._HOMES[verb].endswith(f".{verb}")
    assert f"cli.{verb}" in SOURCES


@pytest.mark.parametrize(
    ("source", "finds"),
    [
        ("from cnncodes.above.roof import x", True),
        ("import cnncodes.above.roof", True),
        ("from cnncodes import above", True),
        ("def f():\n    from cnncodes.above.roof import x", True),
        ("from cnncodes.beside import x", True),
        ("import cnncodes\ncnncodes.above.roof.x()", True),
        ("if TYPE_CHECKING:\n    from cnncodes.above.roof import x", True),
        ("if TYPE_CHECKING:\n    from cnncodes.beside import x", False),
        ("from cnncodes.below.ground import x", False),
        ("from cnncodes.below.ground import _x", True),
        ("from cnncodes.below import _ground", True),
        ("from cnncodes.here.other import _x", False),
        ("from cnncodes import __version__\nimport above", False),
    ],
)
def test_a_wrong_import_is_found(source, finds):
    modules = {"below", "below.ground", "below._ground", "here", "here.other", "beside", "above", "above.roof"}
    wrong = wrong_imports("here.this", ast.parse(source), {"below": 1, "here": 2, "beside": 2, "above": 3}, modules)
    assert bool(wrong) is finds


def test_a_circle_is_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}}) == []


def test_a_public_name_counts_as_its_module():
    floors = {"errors": 0, "extraction": 4}
    assert wrong_imports("errors", ast.parse("from cnncodes import extract"), floors, {"errors", "extraction.extract"})


def test_table_is_read():
    table = "| floor | room | what for |\n|---|---|---|\n| 2 | `runtime/` | fast |\n| 0 | `errors.py` | errors |\n"
    assert read_floors(table) == {"runtime": 2, "errors": 0}


# ---------------------------------------------------------------------------------------------------------- the modules


def test_names_say_a_duty():
    words = {module: set(re.split(r"[._]", module.replace("out_of_core", ""))) for module in SOURCES}
    assert not [module for module in SOURCES if FORBIDDEN_NAMES & words[module]], "name a module after its one duty"


def test_each_module_has_its_test_file():
    defining = {
        module
        for module, tree in TREES.items()
        if module != "__main__" and any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in tree.body)
    }
    paths = {module: SOURCES[module].relative_to(PACKAGE) for module in defining}
    tests = Path(__file__).resolve().parent
    without = [module for module, path in paths.items() if not (tests / path.with_name(f"test_{path.name}")).is_file()]
    assert not without, "write tests/<room>/test_<module>.py"


def test_nothing_is_printed_past_click_and_rich():
    printing = [
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not printing


def test_public_names_are_where_they_are_said_to_be():
    assert set(cnncodes._HOMES.values()) <= set(SOURCES)
    for name in cnncodes.__all__:
        assert getattr(cnncodes, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'extrct'"):
        _ = cnncodes.extrct


def test_type_checkers_see_the_public_names_at_the_same_places():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [(node.module, alias) for node in block.body for alias in node.names]
    assert all(alias.name == alias.asname for _, alias in imports), "`import X as X` is what makes a name public"
    assert {alias.name: module for module, alias in imports} == {
        name: f"cnncodes.{home}" for name, home in cnncodes._HOMES.items()
    }


# ------------------------------------------------------------------------------------------------------- what is light


def test_import_cnncodes_loads_nothing_heavy(tmp_path):
    code = f"import sys, cnncodes; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code, tmp_path).strip() == "[]"


def test_help_loads_nothing_heavy(tmp_path):
    code = f"""
import sys
import tomllib
from cnncodes.cli.main import main
commands = main.list_commands(None)
for command in [[], *([name] for name in commands)]:
    main.main([*command, "--help"], standalone_mode=False, prog_name="cnncodes")
print(len(commands), [name for name in {HEAVY} if name in sys.modules])
"""
    assert re.fullmatch(r"[1-9]\d* \[\]", run_python(code, tmp_path).splitlines()[-1])


@pytest.mark.parametrize(("module", "unwanted"), LIGHT_MODULES.items(), ids=LIGHT_MODULES)
def test_module_loads_without(module, unwanted, tmp_path):
    code = f"import sys, cnncodes.{module}; print([name for name in {unwanted} if name in sys.modules])"
    assert run_python(code, tmp_path).strip() == "[]"


def test_importing_every_module_leaves_no_file_and_prints_nothing(tmp_path):
    modules = ", ".join(f"cnncodes.{module}" for module in SOURCES if module != "__main__")
    assert run_python(f"import {modules}", tmp_path) == ""
    assert list(tmp_path.rglob("*")) == []


def test_each_lower_bound_has_its_reason_and_no_upper_one_is_set():
    project = tomllib.loads((TABLE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = [
        *project["dependencies"],
        *(
            bound
            for extra in ("heic", "notebook", "onnx", "ray", "remote", "report", "timm")
            for bound in project["optional-dependencies"][extra]
        ),
        f"python{project['requires-python']}",
    ]
    reasons = re.findall(r"^\| *`([\w-]+>=[\d.]+)` *\| *\S", TABLE.read_text(encoding="utf-8"), re.M)
    bounds.remove("cnncodes[report]")
    assert sorted(set(bounds)) == sorted(reasons), (
        "pyproject.toml and the table of lower bounds in CONTRIBUTING.md differ"
    )


def test_every_library_that_is_imported_is_declared():
    project = tomllib.loads((TABLE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        re.split(r"[^\w-]", requirement)[0].lower()
        for requirement in [
            *project["dependencies"],
            *(bound for extra in ("onnx", "ray", "remote", "report", "timm") for bound in extras[extra]),
        ]
    }
    distributions = packages_distributions()
    missing: dict[str, str] = {}
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"cnncodes"}:
                if not declared & {one.lower() for one in distributions.get(name, [name])}:
                    missing.setdefault(name, module)
    assert not missing
