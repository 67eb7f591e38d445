"""Faults that are planted on a Ray cluster while it extracts codes, and what the file must hold afterwards."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image
from ray_hosts import RayHosts
from ray_nodes import RayNodes, local

OPTIONS = ("--layer", "layer1", "--layer", "layer3", "--image-size", "32", "--precision", "fp32", "--no-compile")
KILLER_SIZE = (13, 13)
CUT = b"BM cut short"  # a file that no decoder reads
WAIT_SECONDS = 180  # for the first rows of an extraction, or for those that a dead node had, on a busy machine
# What each process of a node runs first. Every image takes a while to be decoded, without taking a processor; and a BMP
# file of KILLER_SIZE ends the process.
FAULTS = f"""
import ctypes, os, time
from PIL import BmpImagePlugin

load, seconds = BmpImagePlugin.BmpImageFile.load, float(os.environ.get("DECODE_SECONDS", 0))

def faulty(self):
    if self.size == {KILLER_SIZE}:
        ctypes.string_at(0)
    if not getattr(self, "was_slow", False):  # an image is loaded again when it is converted
        self.was_slow = True
        time.sleep(seconds)
    return load(self)

BmpImagePlugin.BmpImageFile.load = faulty
"""


def plant_faults(folder: Path) -> Path:
    """Write the module that Python imports first wherever this folder is on its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(FAULTS, encoding="utf-8")
    return folder


def make_images(folder: Path, n: int, *, first: int = 0) -> Path:
    """Write small images in two classes, each with other pixels."""
    for i in range(first, first + n):
        path = folder / "ab"[i % 2] / f"{i:05d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def make_harmful(folder: Path, numbers: Sequence[int] = (100,)) -> None:
    """Add images that end their decoder's process, after those of these numbers, and one that cannot be read."""
    for n in numbers:
        Image.new("RGB", KILLER_SIZE, (n % 256, n // 256, 0)).save(folder / "a" / f"{n:05d}-killer.bmp")
    (folder / "b" / "00101-cut.bmp").write_bytes(CUT)


def content(path: Path) -> dict[str, np.ndarray]:
    """Return every dataset of a codes file: ids, digests, states, reasons, checksums, small pictures, codes, maps."""
    datasets: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, node: datasets.update({name: node[()]} if isinstance(node, h5py.Dataset) else {}))
    return datasets


def differences(path: Path, reference: Path, *but: str) -> list[str]:
    """Return the datasets, but for those named, in which two codes files differ by a bit, with how many rows do."""
    ours, theirs = content(path), content(reference)
    for name in but:
        del ours[name], theirs[name]
    if ours.keys() != theirs.keys():
        return sorted(ours.keys() ^ theirs.keys())
    wrong = []
    for name, values in ours.items():
        if values.shape != theirs[name].shape or values.dtype != theirs[name].dtype:
            wrong.append(f"{name}: {values.shape} {values.dtype}, not {theirs[name].shape} {theirs[name].dtype}")
        elif values.tobytes() != theirs[name].tobytes():
            rows = sum(a.tobytes() != b.tobytes() for a, b in zip(values, theirs[name], strict=True))
            wrong.append(f"{name}: {rows} of {len(values)} rows")
    return wrong


def local_file(images: Path, out: Path, faults: Path, *words: object) -> Path:
    """Extract on this machine alone; another run goes on where an image has ended the one before."""
    done = None
    while done is None or done.returncode == -signal.SIGSEGV:
        done = local("extract", images, "-o", out, *OPTIONS, *words, cwd=out.parent, python_path=(faults,))
    assert done.returncode in (0, 3), done.stderr
    return out


def is_done(path: Path) -> np.ndarray:
    """Return which rows of a codes file have been written, while another process writes it."""
    try:
        with h5py.File(path, locking=False) as file:
            state: np.ndarray = file["images/state"][()]
            return state != 0
    except (OSError, KeyError):
        return np.zeros(0, bool)


def has_more_rows(path: Path, n: int) -> Callable[[], bool]:
    """Return what tells whether a codes file has more than `n` rows."""
    return lambda: int(is_done(path).sum()) > n


def has_all_rows(path: Path, n: int) -> Callable[[], bool]:
    """Return what tells whether a codes file has each of its first `n` rows."""
    return lambda: bool(is_done(path)[:n].all())


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, or a process has ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline, f"nothing for {WAIT_SECONDS} s"
        time.sleep(0.05)


@dataclass
class Ordeal:
    """What an extraction went through.

    Attributes
    ----------
    kills : int
        Moments at which something was killed while the extraction ran.
    seconds : float
        From its start to its end.
    recoveries : list of float
        Seconds from each kill until every row up to the last that was written before it is there: at least one of the
        units that were under way on what was killed comes before that.
    returncode : int
    summary : dict
        What ``--json`` printed.
    stderr : str
    """

    kills: int = 0
    seconds: float = 0.0
    recoveries: list[float] = field(default_factory=list)
    returncode: int = -1
    summary: dict[str, Any] = field(default_factory=dict)
    stderr: str = ""


def kill_while_it_extracts(
    nodes: RayNodes | RayHosts,
    images: Path,
    out: Path,
    kill: Callable[[random.Random], int],
    *,
    n: int,
    seed: int,
    pauses: tuple[float, float],
) -> Ordeal:
    """Extract on a cluster, and kill something at `n` random moments.

    Parameters
    ----------
    kill : callable
        Kills something, and brings it back where it does not come back by itself; returns how many were killed.
    n : int
        Moments.
    seed : int
    pauses : tuple of float
        Least and most seconds between two moments.
    """
    generator, ordeal, began = random.Random(seed), Ordeal(), time.monotonic()
    driver = nodes.driver("extract", images, "-o", out, *OPTIONS, "--json", cwd=out.parent)
    try:
        wait_for(lambda: is_done(out).any(), driver)
        while ordeal.kills < n and driver.poll() is None:
            time.sleep(generator.uniform(*pauses))
            done = np.flatnonzero(is_done(out))
            last, killed = int(done.max(initial=0)), time.monotonic()
            if driver.poll() is not None or not kill(generator):
                continue
            ordeal.kills += 1
            wait_for(has_all_rows(out, last), driver)
            ordeal.recoveries.append(time.monotonic() - killed)
            wait_for(has_more_rows(out, len(done)), driver)  # or nothing would ever be done
        stdout, ordeal.stderr = driver.communicate()
    finally:
        driver.kill()
        driver.communicate()
    ordeal.seconds, ordeal.returncode = time.monotonic() - began, driver.returncode
    assert driver.returncode in (0, 3), ordeal.stderr
    ordeal.summary = json.loads(stdout)
    return ordeal
