"""In files of the earlier layout HDF5 keeps text in a heap: damage there is an error in one line, never a hang."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnncodes.codes import trial
from cnncodes.codes.file import CodesFile
from cnncodes.errors import CodesFileError

OLD = Path(__file__).parents[1] / "files" / "codes-version-1-thumbnails.h5"
HEADER_BYTES = 16  # of a heap and of each of its objects


def heap_headers(content: bytes) -> list[int]:
    """Where the headers of the heap and of its objects lie."""
    at = heap = content.index(b"GCOL")
    end = heap + int.from_bytes(content[heap + 8 : heap + 16], "little")
    places = list(range(heap, heap + HEADER_BYTES))
    while (at := at + HEADER_BYTES) < end and any(content[at : at + HEADER_BYTES]):
        places += range(at, at + HEADER_BYTES)
        size = int.from_bytes(content[at + 8 : at + 16], "little")
        if content[at : at + 2] == b"\0\0":  # what is free
            break
        at += -(-size // 8) * 8
    return places


def size_of_an_object(content: bytes) -> int:
    """Where the size of the first object of the heap lies, by which the next one is found."""
    return content.index(b"GCOL") + HEADER_BYTES + 8


def look_for(group: int) -> None:
    """Look for the processes of a group for ten seconds, in which the system clears away what has ended."""
    for _ in range(100):
        os.killpg(group, 0)
        time.sleep(0.1)


@pytest.fixture
def spinning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file from which HDF5 does not come back."""
    monkeypatch.setattr(trial, "CPU_SECONDS", 1)
    content = bytearray(OLD.read_bytes())
    at = size_of_an_object(content)
    content[at : at + 8] = (2**64 - HEADER_BYTES).to_bytes(8, "little")
    path = tmp_path / "codes.h5"
    path.write_bytes(content)
    return path


def test_a_file_on_which_hdf5_spins_is_an_error_in_one_line(spinning: Path) -> None:
    with pytest.raises(CodesFileError, match=r"codes.h5: damaged: HDF5 spins or crashes") as refusal:
        CodesFile.open(spinning)
    assert len(str(refusal.value).splitlines()) == 1


def test_ctrl_c_ends_the_wait(spinning: Path) -> None:
    program = (
        "from cnncodes.codes import trial; trial.CPU_SECONDS = 60; import sys; from pathlib import Path;"
        "print('waits', flush=True); trial.try_apart(Path(sys.argv[1]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, spinning],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, which sends it to the child as well
        began = time.monotonic()
        assert process.wait(30) == -signal.SIGINT
        assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):  # nor is the child there
        look_for(process.pid)


def test_an_intact_file_is_tried_once_while_it_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, run, calls = Path(shutil.copy(OLD, tmp_path)), subprocess.run, []
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: calls.append(1) or run(*args, **options))
    for _ in range(2):
        with CodesFile.open(path) as file:
            assert file.counts == {"pending": 0, "ok": 12, "failed": 1}
    assert len(calls) == 1
    os.utime(path, ns=(0, 0))
    CodesFile.open(path).close()
    assert len(calls) == 2


def test_a_file_with_a_digest_is_not_tried(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("starts a process"))
    CodesFile.open(path).close()


def test_where_no_process_can_be_started_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CodesFileError, match=r"cannot be tried in a process of its own \(No such file"):
        CodesFile.open(shutil.copy(OLD, tmp_path))


def test_a_trial_that_never_asked_hdf5_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TRIAL", "import no_such_module")
    with pytest.raises(CodesFileError, match=r"cannot be tried in a process of its own \(Python ends with 1\)"):
        CodesFile.open(shutil.copy(OLD, tmp_path))


def test_modules_in_the_working_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("contextlib", "cnncodes", "h5py"):
        (tmp_path / f"{name}.py").write_text(f"open('{name} was here', 'w')\nraise SystemExit(1)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    CodesFile.open(shutil.copy(OLD, tmp_path)).close()
    assert not list(tmp_path.glob("* was here"))


# Runs trials in forks of itself: what a trial imports is imported once
FORKS = """
import os, sys
import cnncodes.codes.layout

for line in sys.stdin:
    script, *sys.argv[1:] = eval(line)
    child = os.fork()
    if not child:
        try:
            exec(script)
        except SystemExit as end:
            os._exit(end.code)
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def forked_trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the same trials take a hundredth of a second each, not a fifth."""
    start = [sys.executable, "-P", "-c", FORKS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(start, env=environment, stdin=PIPE, stdout=PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def run(command: list[str], **options: Any) -> Any:
            executable, _, _, *rest = command
            assert executable == sys.executable
            print(rest, file=server.stdin, flush=True)
            return SimpleNamespace(returncode=int(server.stdout.readline()))

        monkeypatch.setattr(trial.subprocess, "run", run)
        yield
        server.stdin.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
@pytest.mark.usefixtures("forked_trials")
def test_no_flipped_bit_in_a_heap_is_a_hang_or_a_wrong_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "CPU_SECONDS", 1)
    content = OLD.read_bytes()
    with CodesFile.open(OLD) as file:
        expected = (file.provenance.to_json(), file.classes, file.info() | {"path": ""}, file.codes("layer1"))
    bits = list(itertools.product(heap_headers(content), range(8)))
    path, spun = tmp_path / "codes.h5", 0
    sample = np.random.default_rng(0).permutation(len(bits))[:600].tolist()
    assert len(sample) == 600
    for at, bit in (bits[number] for number in sample):
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        path.write_bytes(changed)
        try:
            with CodesFile.open(path) as file:
                read = (file.provenance.to_json(), file.classes, file.info() | {"path": ""}, file.codes("layer1"))
            assert read[:3] == expected[:3], (at, bit)
            np.testing.assert_array_equal(read[3], expected[3])
        except CodesFileError as error:
            if len(str(error).splitlines()) > 1:
                raise
            spun += "spins" in str(error)
    assert spun >= 10  # or the test would show nothing
