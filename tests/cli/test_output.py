"""What the commands show: on any terminal, and where it cannot be written."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import run
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich.console import Console

from cnncodes.cli.output import print_table, progress_bar, save_plot
from cnncodes.errors import CnnCodesError


def test_output_that_cannot_be_written_is_one_line(there: Path) -> None:
    for environment, words, code in (
        ({"PYTHONIOENCODING": "ascii"}, ["compare", "--clf", "svm", "--layer", "layer1"], 0),
        ({"PYTHONIOENCODING": "cp1252"}, ["--help"], 0),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cnncodes", *words],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["info"], ["info", "--json"], ["backbones", "--json"], ["--help"]])
def test_standard_output_that_is_full_is_named(words: list[str], there: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "cnncodes", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.parametrize("command", ["compare", "advise"])
@pytest.mark.parametrize(
    ("place", "reason"), [("nosuch/x.png", "there is no folder"), ("x.foo", "is .png, .svg or .pdf")]
)
def test_a_plot_that_cannot_be_written_is_refused_before_the_work(
    sample_codes: Path, tmp_path: Path, monkeypatch, command: str, place: str, reason: str
) -> None:
    monkeypatch.setattr(
        "cnncodes.probes.protocol.search_C", lambda *args, **kwargs: pytest.fail("it has begun to work")
    )
    result = run(command, sample_codes, "--plot", tmp_path / place, code=1)
    assert reason in result.stderr


def test_a_full_disk_leaves_the_old_plot(tmp_path: Path) -> None:
    def fill_up(place: Path, **_: object) -> None:
        place.write_bytes(b"half a plot")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plot = tmp_path / "plot.png"
    plot.write_bytes(b"the old plot")
    axes = SimpleNamespace(figure=SimpleNamespace(savefig=fill_up, findobj=lambda _: []))
    with pytest.raises(CnnCodesError, match=r"plot\.png: cannot be written \(No space left on device\); make room"):
        save_plot(axes, str(plot))
    assert plot.read_bytes() == b"the old plot"
    assert list(tmp_path.iterdir()) == [plot]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_plot_has_the_same_bytes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, day in (("one", "1700000000"), ("other", "1800000000")):
        axes = Figure().subplots()
        axes.errorbar([0, 1], [0, 1], 0.1)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", day)  # matplotlib takes it for the time
        save_plot(axes, str(tmp_path / f"{name}.{kind}"))
    assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"other.{kind}").read_bytes()


def test_a_table_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a[/b]" * 3000, "c" * 12_000]
    print_table(["path", "label"], [names])
    assert capsys.readouterr().out.splitlines()[1].split() == names


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path: Path) -> None:
    axes = Figure().subplots()
    axes.plot([0, 1], label="$x^$.h5")
    axes.set_xticks([0], ["$\\nolayer$"])
    axes.legend()
    with rc_context({"svg.fonttype": "none"}):
        save_plot(axes, str(tmp_path / "plot.svg"))
    text = (tmp_path / "plot.svg").read_text()
    assert ">$x^$.h5<" in text
    assert ">$\\nolayer$<" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["fit", "-C", "0.1"], "fitting"),
        (["audit"], "looking for what is wrong"),
        (["verify", "codes.h5"], "comparing"),
        (["evaluate"], "evaluating"),
        (["similar", "query.png"], "loading the network, and comparing"),
        (["extract", "query.png", "-o", "one.h5"], "listing the images"),
    ],
)
def test_a_terminal_shows_what_is_being_done_and_a_pipe_does_not(
    words: list[str], text: str, there: Path, small_sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(next((small_sample / "test" / "Bag").iterdir()), "query.png")
    run("fit", "-C", "0.1")
    on_pipe = run(*words)
    Path("one.h5").unlink(missing_ok=True)
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("cnncodes.cli.output.stderr", terminal)
    on_terminal = run(*words)
    assert text in terminal.file.getvalue()
    assert text not in on_pipe.stderr + on_pipe.stdout + on_terminal.stdout


def test_the_bar_shows_steps_with_the_time_so_far_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("cnncodes.cli.output.stderr", terminal)
    with progress_bar("fitting", "fits") as progress:
        progress(0, 46, 0)
        progress(45, 46, 3)
    shown = terminal.file.getvalue()
    for text in ("fitting", "45/46", "0:00:00", "left:", "3 failed"):
        assert text in shown
