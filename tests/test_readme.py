"""The README's commands are there word by word, and its Python runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_there_are_exactly_two_set_up_commands_of_one_line() -> None:
    commands = re.findall(r"<!-- (\w+) command -->\n```sh\n(.*?)\n```", README, re.DOTALL)
    assert [name for name, _ in commands] == ["demo", "test"]
    assert all("\n" not in command for _, command in commands)


def test_every_command_is_mentioned() -> None:
    from cnncodes.cli.main import main

    for name in main.commands:
        assert f"cnncodes {name}" in README, name


def test_the_python_examples_run(small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for letter, name in (("a", "Bag"), ("b", "Sandal")):
        target = tmp_path / "photos" / letter
        target.mkdir(parents=True)
        for i, path in enumerate(sorted((small_sample / "train" / name).iterdir())):
            shutil.copy(path, target / f"{i}.png")
    examples = re.findall(r"<!-- example -->\n```python\n(.*?)\n```", README, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        space: dict[str, object] = {}
        exec(example, space)
    assert space["X"].shape == (20, 96)  # type: ignore[attr-defined]
