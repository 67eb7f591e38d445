"""Names of ours in docstrings, comments and documents: each is there, wherever it lies by now."""

from __future__ import annotations

import ast
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cnncodes", "tests", "benchmarks", "docs", "examples", "data")
FILES = [path for path in ROOT.iterdir() if path.is_file() or path.name in FOLDERS]
FILES += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
PATHS = [f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}" for path in FILES]
TEXTS = [path for path in FILES if path.suffix in (".py", ".md", ".ipynb") and "tests" not in path.parts]
OURS = {".py", ".md", ".ipynb", ".toml", ".js", ".css", ".j2"}  # suffixes of our files
USERS = {".csv", ".h5", ".html", ".npy", ".npz", ".safetensors", ".zip"}  # of files that users have

NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
QUOTED = re.compile(r"(?<!`)(`{1,2})([\w./-]+)(?:\(\))?\1(?!`)")
DOTTED = re.compile(rf"(?<![\w./-])cnncodes\.{NAME}(?![\w/*-])")
# Parts of torch, of a wheel, and of timm
FOREIGN = {"THP_MEM_ALLOC_ENABLE", "MobileNet_V2_Weights.IMAGENET1K_V1", "cnncodes/data/", "config.json"}


def words_in(tree: ast.AST) -> set[str]:
    """Return the identifiers of some code, and its texts that could be one."""
    fields = [getattr(node, field, None) for node in ast.walk(tree) for field in ("id", "attr", "arg", "name", "value")]
    return {value for value in fields if isinstance(value, str) and re.fullmatch(NAME, value)}


@cache
def code() -> tuple[set[str], dict[str, set[str]], dict[str, set[str]]]:
    """Return all words of the code, those of each module, and those of each class with its bases."""
    modules: dict[str, set[str]] = {}
    classes: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for path in FILES:
        if path.suffix == ".py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            modules.setdefault(path.stem, set()).update(words_in(tree))
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    classes.setdefault(node.name, set()).update(words_in(node))
                    bases.setdefault(node.name, []).extend(ast.unparse(base) for base in node.bases)
    for name, above in bases.items():
        classes[name] = classes[name].union(*(classes.get(base, set()) for base in above))
    return set().union(*modules.values()), modules, classes


@cache
def can_be_imported(name: str) -> bool:
    try:
        if name.startswith("torch.ops.image."):
            pkgutil.resolve_name("torchvision.io")  # which registers them
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def is_there(name: str, *, prose: bool) -> bool:
    """Whether what stands in backquotes is there; a single word of `prose` may mean anything."""
    if name in FOREIGN or Path(name).suffix in USERS:
        return True
    if Path(name).suffix in OURS or (name.partition("/")[0] in FOLDERS and "/" in name):
        return any(path.endswith(f"/{name}") for path in PATHS)
    if not re.fullmatch(NAME, name):
        return True
    words, modules, classes = code()
    first, _, rest = name.partition(".")
    if not rest:
        return name in words or name in modules or (prose and "_" not in name)
    if inside := classes.get(first) or modules.get(first):
        return rest.partition(".")[0] in inside
    return can_be_imported(name.replace("nn.", "torch.nn.", 1) if first == "nn" else name)


def wrong_names(text: str, *, prose: bool) -> list[str]:
    """Return the names that lead nowhere. In code, double backquotes hold values, and of these only files count."""
    quoted = [match[2] for match in QUOTED.finditer(text) if prose or len(match[1]) == 1 or match[2].endswith(".py")]
    wrong = [name for name in quoted if not is_there(name, prose=prose)]
    return wrong + [name for name in DOTTED.findall(text) if not can_be_imported(name)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_name_leads_somewhere(path: Path) -> None:
    assert wrong_names(path.read_text(encoding="utf-8"), prose=path.suffix != ".py") == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`cnncodes.probes.search.search_C`, ``errors.py``, `ProbeModel.novelty`, `make_folds()`, `tests/`", []),
        ("calls `cnncodes.errors.no_such_function`", ["cnncodes.errors.no_such_function"] * 2),
        ("see cnncodes.no_such_module", ["cnncodes.no_such_module"]),
        ("in ``no_such_module.py`` and `tests/no_such.py`", ["no_such_module.py", "tests/no_such.py"]),
        ("`ProbeModel.no_such_method` of `no_such_module.f`", ["ProbeModel.no_such_method", "no_such_module.f"]),
        ("calls `no_such" + "_function()`", ["no_such" + "_function"]),
    ],
)
def test_a_name_that_leads_nowhere_is_found(text: str, wrong: list[str]) -> None:
    assert wrong_names(text, prose=False) == wrong


TEST_NAME = re.compile(r"`([\w/]+\.py|…)(?:::(\w+))?`")


def promised_tests(text: str) -> list[tuple[str, str]]:
    """Return file and name of each test of a document; ``…`` stands for the file before."""
    pairs, file = [], ""
    for path, name in TEST_NAME.findall(text):
        file = file if path == "…" else path
        pairs.append((file, name))
    return [(file, name) for file, name in pairs if Path(file).name.startswith("test_")]


def test_each_promise_names_tests_that_are_there() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    promises = text.partition("## Promises")[2].partition("## Not promised")[0]
    pairs = promised_tests(promises)
    assert len(pairs) > 40
    sources = {file: (ROOT / "tests" / file).read_text(encoding="utf-8") for file, _ in pairs}
    assert [(file, name) for file, name in pairs if name and f"def {name}(" not in sources[file]] == []
    rows = [line.split("|") for line in promises.splitlines() if line.startswith("| **")]
    assert [row[1] for row in rows if not TEST_NAME.search(row[2])] == []


def test_a_promised_test_is_found_after_an_ellipsis() -> None:
    text = "`system/test_files.py::test_a`, `…::test_b`, `cli/test_main.py`, `display.py`"
    assert promised_tests(text) == [
        ("system/test_files.py", "test_a"),
        ("system/test_files.py", "test_b"),
        ("cli/test_main.py", ""),
    ]
