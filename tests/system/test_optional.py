"""Optional libraries: one way to import them, and one line where one is missing, before the work begins."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import cnncodes
import cnncodes.insight.advise
import cnncodes.insight.compare
import cnncodes.neighbours.similar
import cnncodes.pages.montage
import cnncodes.pages.report
from cnncodes.cli.main import main
from cnncodes.errors import CnnCodesError, MissingLibraryError
from cnncodes.insight.advise import Advice
from cnncodes.insight.audit import Audit
from cnncodes.insight.comparison import Comparison
from cnncodes.insight.learning_curve import LearningCurve
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.registry import list_backbones
from cnncodes.pages.montage import montage
from cnncodes.pages.report import report
from cnncodes.system.optional import EXTRAS, require

PACKAGE = Path(cnncodes.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PLOTTED = (Advice, Audit, Comparison, EvaluationResult, LearningCurve)
TABLES = (Advice, Audit, Comparison, EvaluationResult)


class Blank:
    """Stands in for a result: whatever is asked of it is there."""

    classes = labels = ("a", "b")
    curve = None
    rows = evidence = per_class = ()

    def findings(self) -> list[Any]:
        return []


USES: dict[str, tuple[str, Callable[[], Any]]] = {
    **{f"{kind.__name__}.plot": ("matplotlib", lambda kind=kind: kind.plot(Blank())) for kind in PLOTTED},
    **{f"{kind.__name__}.to_frame": ("pandas", lambda kind=kind: kind.to_frame(Blank())) for kind in TABLES},
    "report": ("matplotlib", lambda: report("no.h5")),
    "report, its page": ("jinja2", lambda: report("no.h5")),
    "montage": ("jinja2", lambda: montage("no.png", [], "no")),
    "load_backbone": ("timm", lambda: load_backbone("timm:never_asked_before")),
    "list_backbones": ("timm", lambda: list_backbones("timm:*")),
}
COMMANDS = {
    "compare --plot plot.png": "matplotlib",
    "advise --plot plot.png": "matplotlib",
    "report": "matplotlib",
    "report --no-advice --no-audit": "jinja2",
    "similar query.png --images photos --html page.html": "jinja2",
    "backbones timm:*": "timm",
    "layers timm:never_asked_before": "timm",
    "extract photos --backbone timm:never_asked_before": "timm",
}


def one_line_about(library: str) -> str:
    return rf"[\w.: -]+ needs {library}: pip install 'cnncodes\[{EXTRAS[library]}\]'"


@pytest.mark.parametrize(("library", "use"), USES.values(), ids=USES)
def test_a_use_without_its_library_is_one_error(
    library: str, use: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError) as caught:
        use()
    assert re.fullmatch(one_line_about(library), str(caught.value))


@pytest.mark.parametrize(("words", "library"), COMMANDS.items(), ids=COMMANDS)
def test_a_command_without_its_library_ends_with_one_line_before_the_work(
    words: str, library: str, small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").symlink_to(small_sample)
    monkeypatch.setitem(sys.modules, library, None)
    for module, work in (("insight", "compare"), ("insight", "advise"), ("neighbours", "similar")):
        monkeypatch.setattr(f"cnncodes.{module}.{work}.{work}", lambda *args, work=work, **options: pytest.fail(work))
    result = CliRunner().invoke(main, words.split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(f"error: {one_line_about(library)}\n", result.stderr)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "photos"]


def test_a_library_that_is_there_and_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import a_part_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CnnCodesError, match=r"it needs broken, .* \(No module named 'a_part_that_is_missing'\): pip"):
        require("broken", "it")


def test_each_extra_brings_its_libraries() -> None:
    extras = PROJECT["optional-dependencies"]
    own = {library for library in EXTRAS if library != "huggingface_hub"}  # timm needs it itself
    for library in own:
        assert any(re.match(rf"{library}\b", bound) for bound in extras[EXTRAS[library]]), library


def test_whatever_only_an_extra_brings_is_imported_behind_require() -> None:
    """Each import of the package is of Python, of a dependency, or comes after `require` in its function."""
    distributions = packages_distributions()
    bound_of = {re.match(r"[\w-]+", bound)[0].lower() for bound in PROJECT["dependencies"]}  # type: ignore[index]
    unguarded = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) == "require"]
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "level", 0):
                continue
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for library in {str(module).partition(".")[0] for module in modules}:
                declared = {name.lower() for name in distributions.get(library, [])} & bound_of
                if library in sys.stdlib_module_names or library in ("cnncodes", "scipy") or declared:
                    continue
                around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
                if not any(f.lineno <= call.lineno < node.lineno for f in around for call in calls):
                    unguarded.append(f"{path.name}, line {node.lineno}: {library}")
    assert not unguarded


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else ""
