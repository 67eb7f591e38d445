"""Ctrl-C and SIGTERM: a program can end its work by itself, and ends soon where it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="other systems have other signals")

START = """
import hashlib, sys, time
from pathlib import Path
from cnncodes.system.files import writing_text
from cnncodes.system.interrupt import end_when_interrupted

end_when_interrupted()
"""
WORKING_IN_PYTHON = """
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("ended by itself")
"""
INSIDE_A_LIBRARY = """
with writing_text(Path(sys.argv[1])) as stream:
    stream.write("half")
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


def interrupted(program: str, number: signal.Signals, *words: object, ignore: bool = False) -> tuple[int, str, str]:
    """Run a program, send it a signal when it is ready, and return how it ends."""
    disposition = signal.SIG_IGN if ignore else signal.SIG_DFL  # a shell lets jobs in the background ignore SIGINT
    process = subprocess.Popen(
        [sys.executable, "-c", START + program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, disposition),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)  # now it sleeps, or is inside the library
    process.send_signal(number)
    try:
        stdout, stderr = process.communicate(timeout=2 if ignore else 20)  # the latter is 1 s on a quiet machine
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_keyboard_interrupt(number: signal.Signals) -> None:
    assert interrupted(WORKING_IN_PYTHON, number) == (0, "ended by itself\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_does_not_come_back_is_left(number: signal.Signals, tmp_path: Path) -> None:
    assert interrupted(INSIDE_A_LIBRARY, number, tmp_path / "page.html") == (130, "", "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_library_gets_longer_where_something_is_then_saved() -> None:
    """It is inside for 2 s of processor: longer than it is otherwise waited for."""
    slow = """
from cnncodes.system.interrupt import patience
started, rounds = time.process_time(), 2**18
hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)
rounds = int(2 * rounds / (time.process_time() - started))
try:
    with patience(30):
        print("ready", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)
except KeyboardInterrupt:
    print("saved")
"""
    assert interrupted(slow, signal.SIGINT) == (0, "saved\n", "")


def test_a_signal_that_comes_in_the_middle_of_a_pause_ends_the_program_all_the_same() -> None:
    pause = """
from cnncodes.system import interrupt
with interrupt._interrupted._cond:  # held for a moment in each `sleep`; the handler of the signal waits for it
    print("ready", flush=True)
    time.sleep(60)
"""
    assert interrupted(pause, signal.SIGINT) == (130, "", "interrupted\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    assert interrupted(WORKING_IN_PYTHON, signal.SIGINT, ignore=True) == (-signal.SIGKILL, "", "")
