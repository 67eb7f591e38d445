"""Kills a real extraction at every call that changes a file, and looks at what it left.

Run as ``LD_PRELOAD=shim.so python harness.py WORK MODE AMOUNT VIEWS MAPS …``; prints one JSON object. MAPS is a layer
whose maps are kept, ``+LAYER`` if they are added to a file that has the codes, or empty. Each extraction is a forked
child, so that a point costs milliseconds: the parent has built the network, a tiny one, for all children, and has
decoded the images, small PNG files with one broken among them. Neither changes a file. What is killed at random moments
decodes its images itself. The rest of the code that runs is `cnncodes.extract` itself.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import json
import os
import random
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from torch import nn

import cnncodes.codes.checksums
import cnncodes.codes.writer
import cnncodes.extraction.engine
import cnncodes.extraction.worker_thread
from cnncodes import extract, register_backbone
from cnncodes.codes.file import CodesFile
from cnncodes.codes.thumbnails import present
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.system.process import own_process
from cnncodes.vocabulary import MAPS, map_key

N_IMAGES, BATCH, SIDE = 90, 4, 32
PAGE = 4096
CLEAN, TORN, FULL = range(3)  # killed before a call or in its middle; a disk that is full from it on


def build_tiny() -> nn.Module:
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)).eval()


def make_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        path = folder / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)
    (folder / "a" / "99.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")


def remember_networks() -> None:
    """Let children start with the networks that their parent has built, and look no version up again."""
    remember(cnncodes.extraction.engine, "build_network", lambda *request: repr(request))
    remember(importlib.metadata, "version", lambda name: name)


def remember_pictures() -> None:
    """Let children start with the images that their parent has decoded: no kill falls into a decoder then."""
    remember(cnncodes.extraction.worker_thread, "decode", lambda source, **_: source)
    remember(cnncodes.extraction.worker_thread, "thumbnail_of", lambda pixels: pixels.tobytes())


def remember(module: ModuleType, name: str, key_of: Callable[..., Hashable]) -> None:
    compute, results = getattr(module, name), {}

    def recall(*args, **options):  # type: ignore[no-untyped-def]
        key = key_of(*args, **options)
        if key not in results:
            results[key] = compute(*args, **options)
        return results[key]

    setattr(module, name, recall)


class Harness:
    """Runs extractions in forked children, and judges the file that they leave."""

    def __init__(self, work: Path, views: str, maps: str) -> None:
        self.views, self.maps = views, [maps.lstrip("+")] * bool(maps)
        self.images, self.out = work / "images", work / "out"
        self.log = work / "changes.log"
        make_images(self.images)
        self.out.mkdir()
        self.codes = self.out / "codes.h5"
        self.shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self.shim.count.restype = ctypes.c_long
        size = Preprocessing(SIDE, SIDE, "bilinear", (0.5,) * 3, (0.5,) * 3)
        register_backbone("tiny", build_tiny, preprocessing=size)
        remember_networks()
        self.start: bytes | None = None
        if maps.startswith("+"):
            wanted, self.maps = self.maps, []
            self.extract()
            self.start, self.maps = self.codes.read_bytes(), wanted

    def extract(self) -> None:
        settings = {"backbone": "tiny", "layers": ["0", "2"], "views": self.views, "batch_size": BATCH}
        extract(self.images, self.codes, maps=self.maps, workers=1, **settings)

    def child(self, at: int = -1, *, how: int = CLEAN, log: bool = False, after: float | None = None) -> int:
        """Extract in a child that is killed at a call or `after` seconds; return its count of calls, -1 if killed.

        Where the disk is full instead, -2 for an error of ours and -3 for any other.
        """
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                path = str(self.log).encode() if log else None
                self.shim.arm(str(self.out).encode(), ctypes.c_long(at), how, path)
                try:
                    self.extract()
                    outcome = self.shim.count()
                except CodesFileError as error:
                    outcome = -2 if "make room" in str(error).lower() or "choose another place" in str(error) else -3
                except BaseException:
                    outcome = -3
                os.write(writer, str(outcome).encode())
            finally:
                os._exit(0)
        os.close(writer)
        if after is not None:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reader) as stream:
            text = stream.read()
        return int(text) if text else -1

    def clean(self) -> None:
        shutil.rmtree(self.out)
        self.out.mkdir()
        if self.start is not None:
            self.codes.write_bytes(self.start)

    def reference(self) -> tuple[dict[str, np.ndarray], str]:
        """Codes and digest of an uninterrupted run, and of one that found nothing to do.

        Both run in this process, so that every child inherits the network for a new file, and for one that is there.
        """
        self.clean()
        self.extract()
        self.extract()
        with CodesFile.open(self.codes) as file:
            self.rows = file.rows()
            self.thumbnails = file.thumbnails(np.arange(file.n))
            values = {name: file.codes(name) for name in file.layers}
            values |= {map_key(name): file.maps(name)[:] for name in file.map_layers}
        return values, self.digest()

    def digest(self) -> str:
        return hashlib.sha256(self.codes.read_bytes()).hexdigest()

    def wrong_rows(self, expected: dict[str, np.ndarray]) -> str | None:
        """Open what is there: every row that is accepted must be exact. Return what is wrong."""
        if not self.codes.exists():
            return None
        try:
            with CodesFile.open(self.codes) as file:
                good = file.good() & ~file.failed[:, None]
                shown = present(file.thumbnails(np.arange(file.n)))
                if not np.array_equal(file.thumbnails(np.flatnonzero(shown)), self.thumbnails[shown]):
                    return "a wrong thumbnail is accepted"
                for column, name in enumerate(file.stored_keys):
                    accepted = np.flatnonzero(good[:, column])
                    values = dict(zip(self.rows.tolist(), expected[name], strict=True))
                    is_map = name.startswith(MAPS)
                    read = file.maps(name[len(MAPS) :], accepted)[:] if is_map else file.codes(name, accepted)
                    if any(
                        row not in values or not np.array_equal(read[i], values[row])
                        for i, row in enumerate(accepted.tolist())
                    ):
                        return f"a wrong row of {name} is accepted"
        except Exception as error:
            return f"does not open: {error}"
        return None

    def finish(self, digest: str) -> str | None:
        """Run the same command again: the file must be that of an uninterrupted run."""
        self.child()
        if self.digest() != digest:
            return "the finished file differs"
        return None


def sweep(harness: Harness, stride: int) -> dict[str, object]:
    """Kill at every `stride`-th call, before it and in its middle."""
    expected, digest = harness.reference()
    harness.clean()
    calls = harness.child()
    points, killed, failures = 0, 0, []
    for at in range(0, calls, stride):
        for how in (CLEAN, TORN):
            harness.clean()
            killed += harness.child(at, how=how) == -1
            wrong = harness.wrong_rows(expected) or harness.finish(digest)
            points += 1
            if wrong:
                failures.append(f"call {at}{' torn' if how == TORN else ''}: {wrong}")
    return {"calls": calls, "points": points, "killed": killed, "failures": failures}


def full_disk(harness: Harness, stride: int) -> dict[str, object]:
    """Let the disk be full from every `stride`-th call on: one clear error, and a run that can be resumed."""
    expected, digest = harness.reference()
    harness.clean()
    calls = harness.child()
    points, refused, failures = 0, 0, []
    for at in range(0, calls, stride):
        harness.clean()
        outcome = harness.child(at, how=FULL)
        points += 1
        refused += outcome == -2
        wrong = "another error" if outcome == -3 else harness.wrong_rows(expected)
        if not wrong and not harness.codes.exists() and any(harness.out.iterdir()):
            wrong = f"left {[path.name for path in harness.out.iterdir()]}"
        if wrong := wrong or harness.finish(digest):
            failures.append(f"call {at}: {wrong}")
    return {"points": points, "refused": refused, "failures": failures}


def random_kills(harness: Harness, chains: int, seed: int = 0) -> dict[str, object]:
    """Chains of three kills at random moments, then a run that finishes."""
    expected, digest = harness.reference()
    harness.clean()
    began = time.monotonic()
    harness.child()
    longest = time.monotonic() - began
    rng = random.Random(seed)
    kills, missed, failures = 0, 0, []
    for chain in range(chains):
        harness.clean()
        landed = 0
        while landed < 3:
            if harness.child(after=rng.uniform(0, longest)) == -1:
                landed += 1
                if wrong := harness.wrong_rows(expected):
                    failures.append(f"chain {chain}: {wrong}")
            else:  # it had finished before: another one, and sooner
                missed += 1
                longest *= 0.95
                harness.clean()
        kills += landed
        if wrong := harness.finish(digest):
            failures.append(f"chain {chain}: {wrong}")
    return {"chains": chains, "kills": kills, "missed": missed, "failures": failures}


def power_loss(harness: Harness, trials: int, seed: int = 0) -> dict[str, object]:
    """Lose the power: of each page written since the last sync, any version may have reached the disk."""
    expected, digest = harness.reference()
    harness.clean()
    harness.child(log=True)
    changes = read_log(harness.log)
    renamed = next(i for i, (kind, *_) in enumerate(changes) if kind == "r")
    harness.clean()
    harness.child(renamed + 1)  # the file as it was renamed into place: all of it had been synced before
    created = harness.codes.read_bytes()
    writes = [change for change in changes[renamed + 1 :] if change[0] == "w"]
    rng = random.Random(seed)
    lost, failures = 0, []
    for _ in range(trials):
        cut = rng.randrange(1, len(writes) + 1)
        harness.codes.write_bytes(crashed(created, writes[:cut], rng))
        with CodesFile.open(harness.codes) as file:
            lost += int((~file.good().all(axis=1)).sum())
        if wrong := harness.wrong_rows(expected) or harness.finish(digest):
            failures.append(f"after change {cut}: {wrong}")
    return {"trials": trials, "rows_lost": lost, "failures": failures}


def read_log(path: Path) -> list[tuple[str, int, bytes]]:
    """Return (kind, offset, bytes) of each change, in order."""
    data, at, changes = path.read_bytes(), 0, []
    while at < len(data):
        kind, offset, size = struct.unpack_from("=3q", data, at)
        at += 24
        payload = data[at : at + size] if kind == ord("w") else b""
        at += len(payload)
        changes.append((chr(kind), offset, payload))
    return changes


def crashed(created: bytes, writes: list[tuple[str, int, bytes]], rng: random.Random) -> bytes:
    """Return what the disk may hold after `writes`, none of which was synced."""
    memory = bytearray(created)
    versions: dict[int, list[bytes]] = {}
    for _, offset, data in writes:
        memory[offset : offset + len(data)] = data
        for page in range(offset // PAGE, (offset + len(data) - 1) // PAGE + 1):
            old = created[page * PAGE : (page + 1) * PAGE]
            versions.setdefault(page, [old]).append(bytes(memory[page * PAGE : (page + 1) * PAGE]))
    disk = bytearray(created)
    for page, seen in versions.items():
        disk[page * PAGE : (page + 1) * PAGE] = rng.choice(seen)
    return bytes(disk)


def no_checksum() -> None:
    """A wrong design on purpose: rows are accepted by their recorded state alone."""

    def ones(seeds, rows):  # type: ignore[no-untyped-def]
        return np.ones(len(list(zip(seeds, rows, strict=True))), np.uint32)

    assert cnncodes.codes.checksums.checksums is cnncodes.codes.writer.checksums
    cnncodes.codes.checksums.checksums = cnncodes.codes.writer.checksums = ones


def state_before_codes() -> None:
    """A wrong writer on purpose: a row is recorded as done before its codes are there."""
    no_checksum()
    put = CodesWriter._put

    def wrong(self, rows, state, codes, *rest):  # type: ignore[no-untyped-def]
        put(self, rows, state, {name: np.zeros_like(block) for name, block in codes.items()}, *rest)
        put(self, rows, state, codes, *rest)

    CodesWriter._put = wrong  # type: ignore[method-assign]


def main() -> None:
    work, mode, amount, views, maps, *control = sys.argv[1:]
    own_process()
    for name in control:
        {"no-checksum": no_checksum, "state-before-codes": state_before_codes}[name]()
    run = {"sweep": sweep, "kills": random_kills, "power": power_loss, "full": full_disk}[mode]
    if run is not random_kills:
        remember_pictures()
    print(json.dumps(run(Harness(Path(work), views, maps), int(amount))))


if __name__ == "__main__":
    main()
