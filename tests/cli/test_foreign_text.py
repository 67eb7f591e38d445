"""Names, labels and messages that anyone may have written act on no terminal, no page and no table."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from command_line import run
from PIL import Image

import cnncodes
from cnncodes.cli.main import main
from cnncodes.cli.output import open_output, write_csv
from cnncodes.display import for_terminal

CLASSES = [
    "and[/or]",
    "china [copy]",
    "a:b:c",
    "\x1b[31mred",
    "x\ry",
    "\u202egnp",
    "=1+1",
    "$x^$",
    "<script>",
    "\x9b2J\x7f\x07",
]
NAMES = ["a\x1b[2J.png", "[bold]b.png", "c\nd.png", "=HYPERLINK(1).png", ":smile:.png", "\u2066\u200b\ufeff.png"]
BROKEN = "\x1b[31mred/\x1b]0;broken\x07.png"
COMMANDS = [
    ["extract", "photos.csv", "--layer", "layer1", "--layer", "penultimate", "--image-size", "32"],
    ["fit", "-C", "0.01", "--cv", "2"],
    ["evaluate", "photos.csv"],
    ["info"],
    ["predict", "no\x1b[31m\r\u202e"],
    ["fit", "--layer", "\x1b[31m[/or]:a:"],
    ["audit", "--\x1b[31m"],
    ["info", "codes.h5", "\x1b[31m"],
]
MORE_COMMANDS = [
    ["verify", "codes.h5", "photos.csv", "--sample", "4"],
    ["info", "--json"],
    ["info", "model.safetensors"],
    ["info", "model.safetensors", "--json"],
    ["evaluate", "photos.csv", "--json"],
    ["predict", "photos.csv", "--min-confidence", "0.2", "-o", "p.csv"],
    ["predict", "photos.csv", "--format", "json"],
    ["compare", "--clf", "svm", "--cv", "2", "--repeats", "1", "--plot", "c.svg"],
    ["advise", "--cv", "2", "--plot", "a.svg"],
    ["audit", "codes.h5", "photos.csv", "--cv", "2", "-o", "a.csv"],
    ["audit", "--cv", "2", "--json"],
    ["report", "--images", "photos.csv", "--points", "20"],
    ["similar", "a:b:c/[bold]b.png", "--images", "photos.csv", "--html", "s.html"],
    ["extract", "a:b:c"],
    ["extract", "photos.csv", "--backbone", "\x1b[31m"],
    ["fit", "-C", "\x1b[31m"],
    ["merge", "codes.h5", "-o", "\x1b[31m.h5"],
    ["backbones", "\x1b[31m"],
    ["layers", "\x1b[31m"],
    ["verify", "codes.h5", "\x1b[31m\u202e"],
    ["\x1b[31m"],
]


def unseen(text: str) -> set[str]:
    return {char for char in text.replace("\n", "") if not char.isprintable() and unicodedata.category(char) != "Zs"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classes and images that are called what nobody should be called; one file is no image."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for label in CLASSES:
        place = folder / label.replace("/", "-")
        place.mkdir()
        for file in NAMES:
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(place / file, "PNG")
    (folder / BROKEN).write_bytes(b"no image \x1b[31m")
    with (folder / "photos.csv").open("w", newline="") as stream:
        rows = [(f"{label.replace('/', '-')}/{file}", label) for label in CLASSES for file in NAMES]
        csv.writer(stream).writerows([("path", "label"), *rows, (BROKEN, CLASSES[3])])
    return folder


def run_all(commands: list[list[str]]) -> dict[str, Result]:
    """Run commands, none of which lets a foreign character through to the terminal."""
    results: dict[str, Result] = {}
    for words in commands:
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        results[" ".join(words)] = result
        assert (words, unseen(result.stdout)) == (words, set())
        assert (words, unseen(result.stderr)) == (words, set())
    return results


def test_no_foreign_text_acts_on_a_terminal(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)
    results = run_all(COMMANDS)
    evaluated = results["evaluate photos.csv"].stdout
    for name in CLASSES:
        assert f"\n{for_terminal(name)} " in evaluated  # whole, each at the beginning of a line
    failure = "failed: \\x1b[31mred/\\x1b]0;broken\\x07.png: "
    assert failure in results[" ".join(COMMANDS[0])].stderr
    assert results["predict no\x1b[31m\r\u202e"].stderr.startswith("error: 'no\\x1b[31m\\r\\u202e': ")


@pytest.mark.slow
def test_no_foreign_text_acts_on_a_terminal_a_page_or_a_table(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)
    results = run_all(COMMANDS + MORE_COMMANDS)
    for name in ("report.html", "s.html", "c.svg", "a.svg"):
        text = (hostile / name).read_text(encoding="utf-8")
        assert (name, unseen(text)) == (name, set())
        assert "<script>/" not in text
    assert json.loads(results["evaluate photos.csv --json"].stdout)["classes"] == sorted(CLASSES)
    ids = {f"{label.replace('/', '-')}/{file}" for label in CLASSES for file in NAMES} | {BROKEN}
    assert {row["path"] for row in json.loads(results["predict photos.csv --format json"].stdout)} == ids
    with (hostile / "p.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["path"] for row in rows} == {f"'{name}" if name.startswith("=") else name for name in ids}
    assert {row["guess"] for row in rows} <= {"", *CLASSES, "'=1+1"} - {"=1+1"}


def test_a_table_is_exact_in_a_file_and_harmless_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    rows = [{"path": "\x1b[31m\r", "n": 1, "label": None}, {"path": 'a\nb,"', "n": 0.5, "label": "-x.png"}]
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        write_csv(stream, ["path", "n", "label"], rows)
    read = [list(row.values()) for row in csv.DictReader(io.StringIO(file.getvalue(), newline=""))]
    assert read == [["\x1b[31m\r", "1", ""], ['a\nb,"', "0.5", "-x.png"]]
    assert terminal.getvalue().splitlines()[1:] == ["\\x1b[31m\\r,1,", '"a\\nb,""",0.5,-x.png']


def test_a_terminal_that_is_named_as_output_is_a_terminal() -> None:
    ours, theirs = os.openpty()
    with open_output(os.ttyname(theirs), "a table", lambda path: False) as stream:
        write_csv(stream, ["path"], [{"path": "\x1b[31m\u202e"}])
    shown = b""
    while shown.count(b"\n") < 2:  # it comes line by line
        shown += os.read(ours, 100)
    assert shown.split() == [b"path", b"\\x1b[31m\\u202e"]
    os.close(ours)
    os.close(theirs)


def test_what_the_library_logs_acts_on_no_terminal(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)
    done = run("--verbose", "extract", "\x1b[31mred", "-o", "one.h5", code=3)
    assert unseen(done.stderr) == set()


def test_commands_print_by_the_functions_of_one_module_alone() -> None:
    """They let no foreign text act on the terminal."""
    folder = Path(cnncodes.__file__).parent / "cli"
    for path in folder.glob("*.py"):
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        printing = {name for name in calls if name in ("print", "click.echo", "click.secho") or name.endswith(".print")}
        assert printing == (
            {"click.echo", "click.secho", "stderr.print", "Console(width=width, **PLAIN).print"}
            if path.name == "output.py"
            else set()
        )
