"""A codes file survives: killed at any call, at any moment, or without power, a second run finishes it exactly.

``survival/harness.py`` runs the real `extract` with a preloaded counter of file-changing calls. The wrong designs that
it can put in the place of ours are the negative controls: the same harness must catch them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1] / "survival"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="needs Linux and a C compiler"
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "shim.c", "-ldl"], check=True)
    return library


def harness(
    shim: Path, work: Path, mode: str, amount: int, *control: str, views: str = "none", maps: str = ""
) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, HERE / "harness.py", work, mode, str(amount), views, maps, *control],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    ("views", "maps"),
    [
        ("none", "2"),
        *(pytest.param(views, maps, marks=pytest.mark.slow) for views in ("none", "flip") for maps in ("", "+2")),
        pytest.param("flip", "0", marks=pytest.mark.slow),
    ],
)
def test_killed_at_some_calls_the_file_is_finished_exactly(shim: Path, tmp_path: Path, views: str, maps: str) -> None:
    """Maps that are kept with the codes, and (``+``) those that are added to a file of codes."""
    result = harness(shim, tmp_path, "sweep", 41, views=views, maps=maps)
    assert result["failures"] == []
    assert result["killed"] == result["points"] >= 8


def test_a_disk_that_fills_up_is_one_error_and_a_run_that_can_be_resumed(shim: Path, tmp_path: Path) -> None:
    result = harness(shim, tmp_path, "full", 23)
    assert result["failures"] == []
    assert result["refused"] >= 8


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("maps", "every", "least"), [("", 1, 300), ("2", 7, 50)])
def test_killed_at_every_call_the_file_is_finished_exactly(
    shim: Path, tmp_path: Path, maps: str, every: int, least: int
) -> None:
    """With maps it is every seventh call: the calls are those of codes, with one column more."""
    result = harness(shim, tmp_path, "sweep", every, maps=maps)
    assert result["failures"] == []
    assert result["killed"] == result["points"] >= least


@pytest.mark.slow
def test_a_writer_that_marks_rows_before_their_codes_is_caught(shim: Path, tmp_path: Path) -> None:
    assert harness(shim, tmp_path, "sweep", 11, "state-before-codes")["failures"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_random_moments_three_times_over(shim: Path, tmp_path: Path) -> None:
    result = harness(shim, tmp_path, "kills", 34)
    assert result["failures"] == []
    assert result["kills"] >= 100


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("maps", "trials"), [("", 300), ("2", 60)])
def test_without_power_no_wrong_row_is_accepted(shim: Path, tmp_path: Path, maps: str, trials: int) -> None:
    result = harness(shim, tmp_path, "power", trials, maps=maps)
    assert result["failures"] == []
    assert result["rows_lost"] > 0


@pytest.mark.slow
def test_a_file_without_checksums_is_caught_when_power_is_lost(shim: Path, tmp_path: Path) -> None:
    assert harness(shim, tmp_path, "power", 20, "no-checksum")["failures"]
