"""The commands: the defaults chain, results go to stdout, errors are one line, exit codes are what they say."""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import click
import numpy as np
import pytest
from click.testing import CliRunner
from command_line import failed, run
from digit_codes import Y_DIGITS, names, write_codes
from rich.console import Console

from cnncodes.cli.main import main
from cnncodes.cli.output import working
from cnncodes.errors import CnnCodesError


def test_the_defaults_chain(small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    extracted = run("extract", small_sample)
    assert "codes.h5: 45 of 45 images, 0 failed" in extracted.stdout
    fitted = run("fit", "--clf", "svm", "--layer", "layer3").stdout
    assert "C was chosen on the same folds; --nested includes that choice" in fitted
    assert "svm on layer3, C = " in fitted
    assert "majority class" in fitted
    assert "held-out accuracy" in fitted
    rows = list(csv.DictReader(io.StringIO(run("predict", small_sample / "test" / "Bag").stdout)))
    assert len(rows) == 5
    assert sum(row["label"] == "Bag" for row in rows) >= 4
    assert all(1 / 3 < float(row["probability"]) <= 1 for row in rows)
    assert "precision" in run("evaluate").stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.h5", "model.safetensors"]


def test_json_is_one_object_with_the_promised_keys(there: Path) -> None:
    assert "--nested" not in run("fit", "-C", "0.1").stdout
    fitted = json.loads(run("fit", "--json", "--clf", "logreg", "-C", "0.1").stdout)
    keys = {"n", "classes", "clf", "layers", "C", "cv_accuracy", "cv_interval", "baseline_accuracy"}
    assert keys | {"test_accuracy", "test_interval", "seconds"} <= fitted.keys()
    assert (fitted["n"], fitted["C"], fitted["layers"]) == (30, 0.1, ["penultimate"])
    assert fitted["baseline_accuracy"] == pytest.approx(1 / 3)
    info = json.loads(run("info", "--json").stdout)
    assert {
        "n",
        "complete",
        "ok",
        "failed",
        "pending",
        "layers",
        "backbone",
        "weights_sha256",
        "classes",
    } <= info.keys()
    assert (info["n"], info["ok"], info["complete"]) == (45, 45, True)
    evaluated = json.loads(run("evaluate", "--json").stdout)
    assert evaluated["n"] == 15
    assert np.sum(evaluated["confusion"]) == 15
    assert evaluated["test_accuracy"] == fitted["test_accuracy"]
    compared = json.loads(run("compare", "--clf", "svm", "--layer", "layer1", "--layer", "layer3", "--json").stdout)
    accuracies = [row["cv_accuracy"] for row in compared["rows"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {tuple(row["layers"]) for row in compared["rows"]} == {("layer1",), ("layer3",), ()}


def test_errors_are_one_line_that_says_what_to_do(there: Path, small_sample: Path) -> None:
    (there / "empty").mkdir()
    assert "no images" in failed("extract", "empty")
    assert "no such" in failed("extract", "nowhere")
    assert "no such codes file" in failed("fit", "nowhere.h5")
    assert "cnncodes fit" in failed("predict", small_sample, "-m", "nowhere.safetensors")
    (there / "notes.h5").write_text("notes")
    assert "not a codes file" in failed("info", "notes.h5")
    assert "not a codes file" in failed("extract", small_sample, "-o", "notes.h5")
    assert "cannot be written" in failed("extract", small_sample, "-o", "no/such/codes.h5")
    assert "Did you mean 'layer3'" in failed("fit", "--layer", "layer33")
    assert "Did you mean 'resnet50'" in failed("extract", small_sample, "-o", "x.h5", "--backbone", "resnet5")
    assert "pooling is 'avg', asked 'max'" in failed("extract", small_sample, "--pool", "max")
    assert not (there / "model.safetensors").exists()
    assert not (there / "x.h5").exists()


def test_mistaken_files_and_names_are_refused_and_nothing_is_lost(there: Path, small_sample: Path) -> None:
    before = Path("codes.h5").read_bytes()
    assert "what the command reads" in run("fit", "-C", "0.01", "-o", "codes.h5", "--force", code=1).stderr
    assert Path("codes.h5").read_bytes() == before
    assert "layer3, layer3" in run("fit", "--layer", "layer3", "--layer", "layer3", code=1).stderr
    assert "--seed" in run("fit", "--seed", "-1", code=2).stderr
    run("fit", "-C", "0.01", "-o", "model.bin")
    assert '"clf": "svm"' in run("info", "model.bin", "--json").stdout
    Path("codes.dat").write_bytes(before)
    assert "held-out accuracy" in run("evaluate", "codes.dat", "-m", "model.bin").stdout
    assert "Did you mean" in run("backbones", "resnt50", code=1).stderr
    assert (
        "is there and not predictions that cnncodes wrote"
        in run("predict", str(small_sample), "-m", "model.bin", "-o", "codes.h5", code=1).stderr
    )
    assert Path("codes.h5").read_bytes() == before
    assert "there is no folder" in run("extract", str(small_sample), "-o", "no/codes.h5", code=1).stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EIO, "Input/output error", "a.h5"), "a.h5: Input/output error"),
        (OSError("it cannot be read"), "it cannot be read"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_error_of_the_system_is_given_no_name_that_it_lacks(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnncodes.neighbours.similar.similar", Mock(side_effect=error))
    before = sys.stdout
    assert run("similar", "query.png", code=1).stderr == f"error: {line}\n"
    assert sys.stdout is before


def test_a_working_folder_that_was_removed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    line = "error: the working folder cannot be used (No such file or directory); change to another one\n"
    assert run("layers", "resnet18", code=1).stderr == line


def test_an_error_about_another_file_is_not_blamed_on_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "photos/a.png")
    monkeypatch.setattr("cnncodes.pages.report.report", Mock(side_effect=error))
    stderr = run("report", "-o", str(tmp_path / "page.html"), code=1).stderr
    assert stderr == "error: photos/a.png: Permission denied\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", list(main.commands))
def test_each_command_has_help_with_examples(name: str) -> None:
    text = run(name, "--help").stdout
    assert f"cnncodes {name}" in text.partition("Examples:")[2]
    assert main.commands[name].help
    for parameter in main.commands[name].params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_wrong_usage_exits_with_2() -> None:
    for words in (["extract"], ["fit", "--clf", "forest"], ["fit", "-C", "many"], ["nonsense"]):
        assert CliRunner().invoke(main, words).exit_code == 2


@pytest.mark.parametrize(("words", "source"), [([], "note"), (["--verbose"], "cnncodes.neighbours")])
def test_what_the_library_logs_stands_on_a_line_above_the_bar(
    words: list[str], source: str, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("handlers", []), ("level", logging.root.level)):
        monkeypatch.setattr(logging.root, name, value)
    run(*words, "info")
    terminal = Console(file=io.StringIO(), force_terminal=True, highlight=False, soft_wrap=True)
    for module in ("main", "output"):
        monkeypatch.setattr(f"cnncodes.cli.{module}.stderr", terminal)
    with working("fitting"):
        logging.getLogger("cnncodes.neighbours").warning("comparing [1] %s", ":apple:")
    assert f"\r\x1b[2K{source}: comparing [1] :apple:\n" in terminal.file.getvalue()


def test_an_error_that_comes_of_an_interruption_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("cannot join thread before it is started")
    monkeypatch.setattr("cnncodes.neighbours.similar.similar", Mock(side_effect=error))
    with pytest.raises(RuntimeError, match="cannot join"):
        run("similar", "query.png")
    monkeypatch.setattr("cnncodes.cli.main.was_interrupted", lambda: True)
    assert run("similar", "query.png", code=130).stderr == "interrupted\n"


INTERRUPTED_AT_THE_START = """
from unittest.mock import Mock
import cnncodes.__main__ as program
program.end_when_interrupted = Mock(side_effect=KeyboardInterrupt)
program.run()
"""


def test_an_interruption_before_there_is_a_command_is_one_line() -> None:
    words = [sys.executable, "-c", INTERRUPTED_AT_THE_START]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems limit memory in other ways")
@pytest.mark.parametrize("words", [["layers", "mobilenet_v2"], ["fit", "codes.h5"]])
def test_too_little_address_space_is_one_line(words: list[str]) -> None:
    import resource

    done = subprocess.run(
        [sys.executable, "-m", "cnncodes", *words],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (200 << 20,) * 2),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: there is not enough memory \(.+\): 0\.\d\d GB are left within .+\n", done.stderr)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch.so: failed to map segment from shared object"),
    ],
)
def test_whatever_says_that_memory_has_run_out_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.neighbours.similar.similar", Mock(side_effect=error))
    assert run("similar", "query.png", code=1).stderr.startswith("error: there is not enough memory (")
    wrong = CnnCodesError("a.pth: cannot be read as weights")
    wrong.__cause__ = error
    monkeypatch.setattr("cnncodes.neighbours.similar.similar", Mock(side_effect=wrong))
    assert run("similar", "query.png", code=1).stderr.startswith("error: there is not enough memory (")


IN_PROCESSES = """
import cnncodes.probes.search
from cnncodes.__main__ import run
cnncodes.probes.search.side_by_side_pays = lambda *_: False
if __name__ == "__main__":
    run()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of children")
def test_processes_that_are_interrupted_are_not_spoken_of(tmp_path: Path) -> None:
    rows = np.arange(len(Y_DIGITS))
    write_codes(tmp_path / "codes.h5", rows, names(rows))
    (tmp_path / "program.py").write_text(IN_PROCESSES)
    process = subprocess.Popen(
        [sys.executable, "program.py", "fit", "--nested", "--jobs", "2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and len(children.read_text().split()) < 3:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("interrupted\n", 130)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="other systems have other signals")
def test_a_signal_ends_a_command_that_waits_for_a_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        lines = "".join(f"{url}/{n}.png,a\n{url}/{n}.jpg,b\n" for n in range(50))
        (tmp_path / "images.csv").write_text(f"path,label\n{lines}")
        process = subprocess.Popen(
            [sys.executable, "-m", "cnncodes", "extract", "images.csv"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        silent.settimeout(60)
        connection, _ = silent.accept()  # from now on it asks, and nobody answers
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        stderr = process.communicate(timeout=60)[1]
        connection.close()
    assert time.monotonic() - sent < 10  # at once on a quiet machine; it gives up by itself after 30 seconds
    assert (process.returncode, stderr) == (130, "interrupted. To continue: cnncodes extract images.csv\n")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="other systems have other signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["fit", "compare", "advise", "audit"])
def test_a_signal_ends_a_command_soon_and_leaves_no_half_file(
    command: str, number: signal.Signals, tmp_path: Path
) -> None:
    rows = np.arange(len(Y_DIGITS))
    write_codes(tmp_path / "codes.h5", rows, names(rows))
    for seconds in (1, 2, 4):
        process = subprocess.Popen(
            [sys.executable, "-m", "cnncodes", command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        )
        time.sleep(seconds)
        ended = process.poll() is not None
        if not ended:
            process.send_signal(number)
        sent = time.monotonic()
        stdout, stderr = process.communicate(timeout=60)
        if not ended:
            assert time.monotonic() - sent < 20  # two seconds on a quiet machine
            if process.returncode in (0, -number):  # the command was over, and all that was left was to end the process
                assert stdout
                (tmp_path / "model.safetensors").unlink(missing_ok=True)
            else:
                assert process.returncode == 130, stderr
                assert "interrupted" in stderr
            assert "Traceback" not in stderr
            assert [path.name for path in tmp_path.iterdir()] == ["codes.h5"]
