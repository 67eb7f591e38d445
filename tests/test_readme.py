"""The commands of the README are there word by word, and the Python of README and guide runs."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"<!-- (\w+) command -->\n```sh\n(.*?)\n```", README, re.DOTALL)


def examples_of(text: str) -> list[str]:
    return re.findall(r"<!-- example -->\n```python\n(.*?)\n```", text, re.DOTALL)


def test_there_are_exactly_two_set_up_commands_of_one_line() -> None:
    assert [name for name, _ in COMMANDS] == ["demo", "test"]
    assert all("\n" not in command for _, command in COMMANDS)


def test_every_command_is_mentioned() -> None:
    from cnncodes.cli.main import main

    for name in main.commands:
        assert f"cnncodes {name}" in README, name


def test_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) < 130
    commands = [command for _, command in COMMANDS]  # each is one line, however long
    assert not [line for line in lines if len(line) > 120 and line not in commands]


def test_questions_of_the_guide_are_its_headings() -> None:
    listed = re.findall(r"^- \[(.*)\]\(#(.*)\)$", GUIDE, re.MULTILINE)
    assert [question for question, _ in listed] == re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)
    for question, anchor in listed:
        assert anchor == re.sub(r"[^\w -]", "", question.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md"])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (path.parent / link).exists()]


@pytest.mark.parametrize("example", [*examples_of(README), *examples_of(GUIDE)])
def test_examples_import_from_the_package_only(example: str) -> None:
    imports = [node.module for node in ast.walk(ast.parse(example)) if isinstance(node, ast.ImportFrom)]
    assert not [module for module in imports if str(module).startswith("cnncodes.")]


def test_the_python_examples_run(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for letter, name in (("a", "Bag"), ("b", "Sandal")):
        target = tmp_path / "photos" / letter
        target.mkdir(parents=True)
        for i, path in enumerate(sorted((small_sample / "train" / name).iterdir())):
            shutil.copy(path, target / f"{i}.png")
    examples = [*examples_of(README), *examples_of(GUIDE)]
    assert len(examples) == 10
    for example in examples:
        space: dict[str, object] = {}
        exec(example, space)
    assert space["X"].shape == (20, 96)  # type: ignore[attr-defined]
    printed = capsys.readouterr().out
    labels = dict(re.findall(r"^([ab]/\d\.png) ([ab]) 0\.\d+$", printed, re.MULTILINE))  # of `predict`
    assert labels == {f"{letter}/{i}.png": letter for letter in "ab" for i in range(10)}
    assert re.search(r"gone\.jpg.*no such file", printed)
    assert (tmp_path / "report.html").is_file()
