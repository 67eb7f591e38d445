"""A file that kills its decoder, or never comes back from it, does not keep the other images from being finished."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes import CodesFile
from cnncodes.extraction.journal import Journal

# What a new process runs first: decoders of BMP files that crash or hang on two sizes of image.
FAULTY_DECODERS = """
import ctypes, time
from PIL import BmpImagePlugin

load = BmpImagePlugin.BmpImageFile.load

def faulty(self):
    if self.size == (13, 13):
        ctypes.string_at(0)
    while self.size == (11, 11):
        time.sleep(0.05)
    return load(self)

BmpImagePlugin.BmpImageFile.load = faulty
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine good images, two classes."""
    rng = np.random.default_rng(0)
    for i in range(9):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def extract(folder: Path, *words: str, faults: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process with faulty decoders."""
    (folder / "faulty").mkdir(exist_ok=True)
    (folder / "faulty" / "sitecustomize.py").write_text(faults or FAULTY_DECODERS)
    paths = [str(folder / "faulty"), str(Path(__file__).parents[2])]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "cnncodes",
            "extract",
            "photos",
            "--layer",
            "layer1",
            "--workers",
            "2",
            "--precision",
            "fp32",
            *words,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_image_that_kills_the_process_is_recorded_on_the_second_try(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (13, 13)).save(photos / "a" / "killer.bmp")
    assert extract(tmp_path).returncode == -signal.SIGSEGV
    second = extract(tmp_path)
    assert second.returncode == 3, second.stderr
    with CodesFile.open(tmp_path / "codes.h5") as file:
        assert file.counts == {"pending": 0, "ok": 9, "failed": 1}
        assert list(file.info()["failures"]) == ["a/killer.bmp"]
        assert "its decoder crashes (signal 11)" in file.info()["failures"]["a/killer.bmp"]
    assert not list(tmp_path.glob(".codes.h5*"))
    assert extract(tmp_path).returncode == 3


def test_an_image_that_takes_too_long_is_recorded_at_once(photos: Path, tmp_path: Path) -> None:
    for name in ("a/0.slow.bmp", "b/1.slow.bmp"):  # both workers hang
        Image.new("RGB", (11, 11), name[0] == "a").save(photos / name)
    began = time.monotonic()
    run = extract(tmp_path, "--image-timeout", "2", "--json")
    assert run.returncode == 3, run.stderr
    assert time.monotonic() - began < 60
    done = json.loads(run.stdout)
    assert (done["ok"], done["failed"]) == (9, 2)
    assert set(done["failures"]) == {"a/0.slow.bmp", "b/1.slow.bmp"}
    assert all("not decoded within 2 seconds" in reason for reason in done["failures"].values())


def test_a_killed_run_costs_no_image_that_can_be_read(photos: Path, tmp_path: Path) -> None:
    codes = tmp_path / "codes.h5"
    plain = (photos / "a" / "0.bmp").read_bytes()
    with Journal(codes, 1) as journal:
        journal.enter(0, hashlib.sha256(plain).digest())
        left = (tmp_path / ".codes.h5.decoding").read_bytes()
    (tmp_path / ".codes.h5.decoding").write_bytes(left)  # as if the process had died here
    assert extract(tmp_path).returncode == 0
    with CodesFile.open(codes) as file:
        assert file.counts["ok"] == 9


# Every picture is a large one, and the process is killed when a few have been opened
KILLED_FOR_MEMORY = """
import os, signal
from PIL import BmpImagePlugin
from cnncodes.system import claims
claims.SMALL_BYTES, claims.TIGHT = 0, 0
load, loaded = BmpImagePlugin.BmpImageFile.load, []

def killed(self):
    if not any(one is self for one in loaded):  # an image is loaded again when it is converted
        loaded.append(self)
    if len(loaded) > 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return load(self)

BmpImagePlugin.BmpImageFile.load = killed
"""


@pytest.mark.slow
def test_each_run_that_is_killed_for_memory_gets_on(photos: Path, tmp_path: Path) -> None:
    assert extract(tmp_path, faults=KILLED_FOR_MEMORY).returncode == -signal.SIGKILL
    with CodesFile.open(tmp_path / "codes.h5") as file:
        n_kept = file.counts["ok"]
    assert n_kept
    while extract(tmp_path, faults=KILLED_FOR_MEMORY).returncode == -signal.SIGKILL:
        with CodesFile.open(tmp_path / "codes.h5") as file:
            assert file.counts["ok"] > n_kept
            n_kept = file.counts["ok"]
    with CodesFile.open(tmp_path / "codes.h5") as file:
        assert (file.counts["ok"], file.counts["failed"]) == (9, 0)


def test_large_pictures_that_cannot_fit_are_refused_and_the_others_kept(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000)).save(photos / "a" / "large.bmp")
    limits = "from cnncodes.system import claims\nclaims.available_memory = lambda: 10**8\n"
    done = extract(tmp_path, faults=limits)
    assert done.returncode == 3, done.stderr
    assert "9 of 10 images, 1 failed" in done.stdout
    assert "4000 × 3000 pixels: it takes 0.09 GB, and 0.03 GB are left" in done.stderr or "read the file" in done.stderr
