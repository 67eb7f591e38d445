"""How commands are declared: examples in the help, and options that several have."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from command_line import failed, run

import cnncodes
from cnncodes.cli.main import main
from cnncodes.cli.options import as_option, command, option_guard, option_jobs, option_json
from cnncodes.errors import ImagesError, parameter

PACKAGE = Path(cnncodes.__file__).parent
COMMANDS = main.commands
OPTION = re.compile(r"(?<![\w(-])--[a-z][a-z0-9-]*[a-z0-9]")  # but no variable of a style sheet, var(--accent)
OTHERS = re.compile(r"`(aws|curl|gcloud|pip|ray) [^`]*`")  # commands of other programs
# Modules that write commands of these names, a word at a time
WRITES = {
    "pages/provenance.py": ("extract", "fit", "finetune", "report"),
    "pages/report.py": ("report",),
    "insight/next_commands.py": ("fit", "compare", "advise", "finetune"),
    "insight/comparison.py": ("fit",),
    "cli/scores.py": ("fit",),
    "cli/demo.py": ("extract", "fit", "evaluate", "predict", "compare"),
    "cli/output.py": ("compare", "advise"),
    "cli/options.py": tuple(COMMANDS),
}
CHOSEN_ELSEWHERE = {"extraction/settings.py"}  # names its parameters by a variable: tested in test_settings.py


@command("show --json | jq .", "show  'with  blanks'")
@option_guard
@option_jobs
@option_json
def show(**options: Any) -> None:
    """Show the options."""
    click.echo(options)


def test_the_help_ends_with_the_examples_as_they_are_typed() -> None:
    text = CliRunner().invoke(show, ["--help"]).stdout
    assert text.endswith("Examples:\n  show --json | jq .\n  show  'with  blanks'\n")


def test_shared_options_have_their_defaults_and_values() -> None:
    assert CliRunner().invoke(show, []).stdout == "{'guard': True, 'n_jobs': 'auto', 'as_json': False}\n"
    words = ["--no-guard", "--jobs", "3", "--json"]
    assert CliRunner().invoke(show, words).stdout == "{'guard': False, 'n_jobs': 3, 'as_json': True}\n"


def options_of(name: str) -> set[str]:
    return {word for one in COMMANDS[name].params for word in [*one.opts, *one.secondary_opts]}


def modules() -> list[str]:
    return [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts of a module, but no docstrings; what is filled in is written as ``{}``."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node, False)):
            inside.add(id(node.body[0].value))  # type: ignore[attr-defined]
            assert text


@pytest.mark.parametrize("module", modules())
def test_every_option_that_a_text_names_belongs_to_its_command(module: str) -> None:
    """In the library, texts name whole commands or use `parameter`; in the command line, the command's own options."""
    own = [Path(module).stem] if module.startswith("cli/") and Path(module).stem in COMMANDS else []
    skipped = {"--help", "--version", "--verbose"} if module == "cli/main.py" else {"--no"}  # "--no-{}"
    allowed = {*own, *WRITES.get(module, ())}
    for text in texts(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        for part in re.split(r"(?=\bcnncodes [a-z])", text):
            verb = re.match(r"cnncodes ([a-z]+)\b", part)
            names = {verb[1]} & COMMANDS.keys() if verb else allowed
            for option in set(OPTION.findall(OTHERS.sub("", part))) - skipped:
                assert any(option in options_of(name) for name in names), (option, text)


def parameters_named() -> list[tuple[str, str, Any, str | None]]:
    """Module, name, value and function of each use of `parameter`."""
    uses = []
    for module in modules():
        for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "parameter"):
                continue
            if module in CHOSEN_ELSEWHERE:
                continue
            name, *rest = node.args
            of = next((one.value for one in node.keywords if one.arg == "of"), None)
            assert isinstance(name, ast.Constant), f"{module} names a parameter that this test cannot read"
            try:
                value = ast.literal_eval(rest[0]) if rest else ...
            except ValueError:
                value = "VALUE"
            uses.append((module, name.value, value, None if of is None else ast.literal_eval(of)))
    return uses


@pytest.mark.parametrize(("module", "name", "value", "of"), parameters_named())
def test_every_parameter_that_a_text_names_exists_in_python_and_in_whichever_command_runs(
    module: str, name: str, value: Any, of: str | None
) -> None:
    verbs = [getattr(cnncodes, verb) for verb in cnncodes.__all__] + [cnncodes.ProbeModel.save]
    functions = [getattr(cnncodes, of)] if of else [one for one in verbs if inspect.isroutine(one)]
    functions += [cnncodes.RayCluster] if module.startswith("cluster/") else []
    assert (
        any(name in inspect.signature(function).parameters for function in functions) or module == "solvers/device.py"
    )
    assert name in parameter(name, value, of=of)
    top = click.Context(main, info_name="cnncodes")
    for running, one in COMMANDS.items():
        text = as_option(click.Context(one, top, running), name, value, of)
        verb = re.match(r"`cnncodes (\w+) … ", text)
        if of in COMMANDS:
            assert (verb[1] if verb else running) == of
        options = re.findall(r"(?<!\S)--?\w[\w-]*", text)
        assert options, f"no command has an option for {name}"
        assert set(options) <= options_of(verb[1] if verb else running)


def test_parameters_are_named_as_the_user_sets_them() -> None:
    top = click.Context(main, info_name="cnncodes")
    fit, extract = (click.Context(COMMANDS[name], top, name) for name in ("fit", "extract"))
    assert as_option(fit, "guard", False) == "--no-guard"
    assert as_option(fit, "overwrite", True) == "--force"
    assert as_option(extract, "layers", ("layer1", "a b")) == "--layer layer1 --layer 'a b'"
    assert as_option(extract, "shard", (2, 8), "extract") == "--shard 2/8"
    assert as_option(fit, "layers", ["layer1"], "extract") == "`cnncodes extract … --layer layer1`"
    assert as_option(fit, "allow_outside", True, "load_images") == "`cnncodes extract … --allow-outside`"
    assert as_option(fit, "memory_limit") == "--memory-limit"
    assert as_option(fit, "nothing", 1) == "nothing"
    assert parameter("memory_limit") == "memory_limit"
    assert parameter("layers", ["layer1"], of="extract") == "extract(…, layers=['layer1'])"


def test_a_command_that_ends_leaves_the_names_of_python() -> None:
    assert "use `cnncodes" not in parameter("cv", 2)
    run("info", "nowhere.h5", code=1)
    assert parameter("cv", 2) == "cv=2"


@pytest.fixture
def table(tmp_path: Path, small_sample: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of images that lie outside its folder."""
    monkeypatch.chdir(tmp_path)
    paths = sorted(small_sample.rglob("*.png"))
    rows = [f"{path},{path.parent.name},{path.parent.parent.name}" for path in paths]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *rows]) + "\n", encoding="utf-8")
    return tmp_path / "table.csv"


TAKE_TABLES = {
    "extract": ["table.csv"],
    "evaluate": ["table.csv"],
    "advise": ["codes.h5", "--images", "table.csv", "--finetune", "--cv", "2"],
    "predict": ["table.csv"],
    "audit": ["codes.h5", "table.csv"],
    "verify": ["codes.h5", "table.csv", "--sample", "3"],
    "report": ["codes.h5", "--images", "table.csv", "--no-advice", "--no-audit", "-m", "model.safetensors"],
    "similar": ["table.csv"],
    "export": ["--int8", "--images", "table.csv"],
    "finetune": ["codes.h5", "--images", "table.csv", "--from", "all", "--epochs", "1"],
}


def test_each_command_that_takes_images_can_allow_them_elsewhere() -> None:
    images = {
        name
        for name, one in COMMANDS.items()
        if {"images", "query"} & {option.name for option in one.params} or name == "evaluate"
    }
    assert images == TAKE_TABLES.keys()
    assert all("--allow-outside" in options_of(name) for name in TAKE_TABLES)


@pytest.mark.slow
def test_each_command_that_takes_images_takes_a_table_of_images_elsewhere(table: Path, small_sample: Path) -> None:
    """`similar` takes one image, so that a longer table is refused for its length."""
    run("extract", "table.csv", "--layer", "penultimate", "--image-size", "64", "--allow-outside")
    run("fit", "-C", "0.1")
    for name, words in TAKE_TABLES.items():
        assert failed(name, *words).endswith("move the table up, or allow it: --allow-outside"), name
        if name == "similar":
            assert failed(name, *words, "--allow-outside") == "error: table.csv: holds 45 images; give one"
            picture = next(small_sample.rglob("*.png"))
            words = [str(picture), "--images", "table.csv", "--html", "page.html"]
            assert "9 pictures" in run(name, *words, "--allow-outside").stderr
        else:
            run(name, *words, "--allow-outside")


def test_python_names_the_function_that_allows_images_elsewhere(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match=r"allow it: load_images\(…, allow_outside=True\)$"):
        cnncodes.extract(table, tmp_path / "new.h5")
    done = cnncodes.extract(table, tmp_path / "new.h5", layers=["layer1"], image_size=32, allow_outside=True)
    assert done.ok == done.n == 45
