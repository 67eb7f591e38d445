"""A file that machines have made equals the one that this process makes, whatever happens to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
from PIL import Image
from tiny_network import Staged, own
from worker_threads import Threads, joined, node

from cnncodes import RayCluster, extract
from cnncodes.cluster import seats, units
from cnncodes.cluster.transport import WorkerLostError
from cnncodes.errors import ClusterError, DeviceError, ImagesError, MissingLibraryError, SettingError
from cnncodes.images.decoding import DecodeError
from cnncodes.images.image_set import ImageSet
from cnncodes.images.stored_file import StoredFile

N = 90
RAY_SCRIPT = """
import sys, tempfile
import ray
from cnncodes import extract
from cnncodes.cli.main import main

images, out = sys.argv[1:]
with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
    options = {"include_dashboard": False, "object_store_memory": 100_000_000, "log_to_driver": False}
    ray.init(num_cpus=1, _temp_dir=folder, **options)
    try:
        extract(images, out + "/local.h5", layers="layer1", image_size=32)
        options = ["--layer", "layer1", "--image-size", "32", "--ray", "auto", "--json"]
        main(["extract", images, "-o", out + "/codes.h5", *options], standalone_mode=False)
    except SystemExit as end:
        assert end.code == 3, end.code
    finally:
        ray.shutdown()
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety images, one of them broken."""
    folder = tmp_path_factory.mktemp("images") / "photos"
    rng = np.random.default_rng(0)
    for i in range(N):
        path = folder / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)).save(path)
    (folder / "a" / "10.png").write_bytes(b"no image at all")
    return folder


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    own(Staged)
    monkeypatch.setattr(units, "UNIT_ROWS", 16)


@pytest.fixture
def run(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Extract on threads; the options are those of `extract`."""

    def run(transport: Threads | None, name: str = "codes.h5", source: Any = images, **options: Any) -> Any:
        options = {"backbone": "own", "precision": "fp32", "compile": False, "batch_size": 4} | options
        if transport is None:
            return extract(source, tmp_path / name, **options)
        with joined(transport, monkeypatch):
            return extract(
                source, tmp_path / name, cluster=RayCluster(mixed_nodes=options.pop("mixed", False)), **options
            )

    return run


def content(path: Path) -> dict[str, bytes]:
    """Return all that a codes file holds, but for the time at which it was made."""
    arrays: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: arrays.update({name: item[()].tobytes()} if isinstance(item, h5py.Dataset) else {})
        )
        arrays["provenance"] = str({key: file.attrs[key] for key in file.attrs if key != "created"}).encode()
    return arrays


def test_the_file_is_that_of_this_process(run: Callable[..., Any], tmp_path: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    done = run(Threads(node("a", 2), node("b")), progress=lambda *numbers: calls.append(numbers))
    run(None, "local.h5")
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")
    assert list(done.failures) == ["a/10.png"]
    assert sum(one.images for one in done.nodes) == N
    assert {one.name for one in done.nodes} <= {"box-a", "box-b"}
    assert calls[-1] == (N, N, 1)
    assert not list(tmp_path.glob(".*.decoding"))


def test_workers_that_die_lose_no_row(run: Callable[..., Any], tmp_path: Path) -> None:
    transport = Threads(node("a"), node("b"), node("c"))

    def die(key: str, method: str, value: Any, n: int) -> Any:
        if method == "run" and (key, n) in {("a", 0), ("a", 2), ("b", 1)}:
            raise WorkerLostError("killed")
        return value

    transport.answer = die
    done = run(transport)
    run(None, "local.h5")
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")
    assert done.ok == N - 1
    assert len(transport.started) >= 4


def test_the_only_machine_is_tried_again_though_many_workers_die(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = Threads(node("a"))

    def die(key: str, method: str, value: Any, n: int) -> Any:
        if method == "open" and n < 8:
            raise WorkerLostError("preempted")
        return value

    transport.answer = die
    monkeypatch.setattr(seats, "MAX_RETRY_SECONDS", 0.01)
    done = run(transport)
    assert done.ok == N - 1
    assert len(transport.started) == 9
    assert [note for note in done.notes if "6 workers died in a row (preempted)" in note]


def test_a_node_that_dies_and_one_that_joins(run: Callable[..., Any], tmp_path: Path) -> None:
    transport = Threads(node("a"), node("b"))

    def leave(key: str, method: str, value: Any, n: int) -> Any:
        if method == "run" and key == "a":
            transport.living = [node("b"), node("c")]
            raise WorkerLostError("its node died")
        return value

    transport.answer = leave
    done = run(transport)
    assert done.ok == N - 1
    assert "c" in transport.started


def test_files_that_a_worker_cannot_read_are_sent(
    run: Callable[..., Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "here"
    shutil.copytree(images, copy)
    monkeypatch.setattr("cnncodes.cluster.worker._reads", lambda sample: False)
    monkeypatch.setattr("cnncodes.cluster.loads._anywhere", lambda source: Path("/nowhere") / source.name)
    run(Threads(node("a")), source=copy)
    run(None, "local.h5", source=copy)
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")


def test_a_file_that_only_this_process_can_read_is_done_again(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cnncodes.cluster.loads._anywhere",
        lambda source: Path("/nowhere") / source.name if source.name == "20.png" else source,
    )
    run(Threads(node("a")))
    run(None, "local.h5")
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")


class Stored(StoredFile):
    """A file in a store, which machines of one thread each may reach or not; it is pickled on its way to a worker."""

    changed = -1
    down: str = ""  # what machines of the cluster say of the store
    readers: ClassVar[list[str]] = []  # names of the threads that have read

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def read_bytes(self) -> bytes:
        name = threading.current_thread().name
        self.readers.append(name)
        if self.down and name.startswith(("cnncodes-0", "ThreadPoolExecutor")):
            raise (MissingLibraryError if "library" in self.down else ImagesError)(self.down)
        return self.path.read_bytes()


def stored_set(images: Path) -> ImageSet:
    paths = sorted(images.rglob("*.png"))
    return ImageSet([path.relative_to(images).as_posix() for path in paths], [Stored(path) for path in paths])


@pytest.mark.parametrize(
    ("down", "is_sent"),
    [("", False), ("no credentials", True), ("needs a library", True)],
    ids=lambda value: str(value),
)
def test_files_of_a_store_are_read_by_machines_that_can_and_sent_to_others(
    run: Callable[..., Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, down: str, is_sent: bool
) -> None:
    run(None, "local.h5", source=stored_set(images))
    monkeypatch.setattr(Stored, "down", down)
    monkeypatch.setattr(Stored, "readers", readers := [])
    transport = Threads(node("a"), node("b"))
    transport.is_pickled = True
    run(transport, source=stored_set(images))
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")
    assert any(name.startswith("cnncodes-read") for name in readers) == is_sent
    assert any(name.startswith("cnncodes-0") for name in readers) != is_sent


def test_a_store_that_is_down_ends_the_run_with_its_own_message(
    run: Callable[..., Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = Threads(node("a"), node("b"))

    def break_down(done: int, total: int, failed: int) -> None:
        monkeypatch.setattr(Stored, "down", "s3://bucket: 64 files in a row could not be read")

    with pytest.raises(ImagesError, match=r"^s3://bucket: 64 files in a row could not be read$"):
        run(transport, source=stored_set(images), progress=break_down)
    assert len(transport.started) == 2  # no worker was taken for dead
    monkeypatch.setattr(Stored, "down", "")
    assert 0 < run(Threads(node("a")), source=stored_set(images)).computed < N
    run(None, "local.h5", source=stored_set(images))
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_archives_are_read_where_they_lie(
    run: Callable[..., Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    archive = shutil.make_archive(str(tmp_path / "photos"), suffix[1:], images)
    monkeypatch.setattr("cnncodes.cluster.loads.Loader._read", lambda self, row: pytest.fail("its bytes were sent"))
    monkeypatch.chdir(tmp_path)
    transport = Threads(node("a"))
    transport.is_pickled = True
    run(transport, source=Path(archive).name)
    run(None, "local.h5", source=archive)
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")


def test_arrays_are_sent_as_pixels(run: Callable[..., Any], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    run(Threads(node("a"), node("b")), source=pixels)
    run(None, "local.h5", source=pixels)
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")


def test_a_second_run_goes_on(run: Callable[..., Any], tmp_path: Path) -> None:
    def interrupt(done: int, total: int, failed: int) -> None:
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Threads(node("a")), progress=interrupt)
    done = run(Threads(node("a")))
    assert 0 < done.computed < N
    run(None, "local.h5")
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")


@pytest.mark.slow
def test_maps_and_added_layers(run: Callable[..., Any], tmp_path: Path) -> None:
    for out, make in (("codes.h5", lambda: Threads(node("a"), node("b"))), ("local.h5", lambda: None)):
        run(make(), out, layers=["layer4"], maps=["layer3"])
        run(make(), out, layers=["layer2"])
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")


def test_another_version_is_refused_by_name_before_work_starts(run: Callable[..., Any], tmp_path: Path) -> None:
    transport = Threads(node("a"), node("b"))
    transport.answer = lambda key, method, value, n: (
        value | {"cnncodes": "0.0.9"} if (key, method) == ("b", "hello") else value
    )
    with pytest.raises(ClusterError, match=r"^box-b: it has cnncodes 0\.0\.9, and this machine .*: pip install"):
        run(transport)
    assert not (tmp_path / "codes.h5").exists()


def test_another_processor_is_refused_or_taken_with_a_note(run: Callable[..., Any]) -> None:
    def other(key: str, method: str, value: Any, n: int) -> Any:
        if (key, method) == ("b", "build"):
            object.__setattr__(value, "photo_digest", "0" * 64)
        return value

    transport = Threads(node("a"), node("b"))
    transport.answer = other
    with pytest.raises(ClusterError, match=r"box-.: its processor .* mixed_nodes=True allows that"):
        run(transport)
    transport = Threads(node("a"), node("b"))
    transport.answer = other
    done = run(transport, mixed=True)
    assert any("another processor" in note for note in done.notes)


def test_a_latecomer_that_differs_is_left_out_with_a_note(run: Callable[..., Any]) -> None:
    transport = Threads(node("a"))

    def join(key: str, method: str, value: Any, n: int) -> Any:
        if (key, method) == ("b", "hello"):
            return value | {"cnncodes": "0.0.9"}
        if method == "run" and n == 0:
            transport.living.append(node("b"))
        return value

    transport.answer = join
    done = run(transport)
    assert done.ok == N - 1
    assert [note for note in done.notes if "0.0.9" in note and "box-b" in note]


def test_an_error_of_the_settings_is_the_users(run: Callable[..., Any]) -> None:
    with pytest.raises(SettingError, match="no pooling 'best'"):
        run(Threads(node("a")), pooling="best")


def test_a_device_of_one_machine_is_refused_before_the_cluster_is_joined() -> None:
    with pytest.raises(SettingError, match=r"device='cuda:1': on a cluster it is auto, cpu, cuda"):
        extract(np.zeros((1, 8, 8, 3), np.uint8), "never.h5", device="cuda:1", cluster=RayCluster("no address at all"))


def test_no_machine_at_all_is_told_with_the_reason(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"no machine of the cluster can work .box-a: others use its 4 processors"):
        run(Threads(node("a", 0, all_cpus=4)))
    transport = Threads(node("a"))
    monkeypatch.setattr(seats, "STALL_SECONDS", 0.1)

    def leave(key: str, method: str, value: Any, n: int) -> Any:
        if method == "run":
            transport.living = []
            raise WorkerLostError("its node died")
        return value

    transport.answer = leave
    with pytest.raises(ClusterError, match=r"box-a: its workers die \(its node died\)\), for .* What was done is kept"):
        run(transport)


def test_an_image_that_kills_its_workers_is_tried_apart(
    run: Callable[..., Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker that is to decode it dies, until its unit is small and each image of it is tried apart."""
    transport = Threads(node("a"), node("b"))
    tried: list[bytes] = []

    def refuse(self: Any, data: bytes, digest: bytes, seconds: float) -> None:
        tried.append(digest)
        if data == (images / "b" / "41.png").read_bytes():
            raise DecodeError("its decoder crashes")

    def die(self: Any, load: Any) -> Any:
        if "b/41.png" in load.ids and not load.apart:
            raise WorkerLostError("killed")
        return work(self, load)

    work = transport.make.run
    monkeypatch.setattr("cnncodes.extraction.journal.Journal.try_suspect", refuse)
    monkeypatch.setattr(transport.make, "run", die)
    done = run(transport)
    assert done.failures["b/41.png"] == "its decoder crashes"
    assert done.ok == N - 2
    assert len(tried) <= 16


def test_an_image_that_kills_every_worker_is_recorded_and_the_others_are_computed(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = Threads(node("a"), node("b"))
    had: list[list[str]] = []

    def die(self: Any, load: Any) -> Any:
        if "b/41.png" in load.ids:
            had.append(load.ids)
            raise WorkerLostError("out of memory")
        return work(self, load)

    work = transport.make.run
    with monkeypatch.context() as patch:
        patch.setattr(transport.make, "run", die)
        patch.setattr(seats, "MAX_RETRY_SECONDS", 0.01)
        done = run(transport)
    assert done.failures["b/41.png"].startswith("8 workers died while they had it (out of memory)")
    assert (done.ok, len(had)) == (N - 2, 8)
    assert had[-3:] == [["b/41.png"]] * 3
    assert run(Threads(node("a"))).computed == 0  # the failure is kept, with the digest of the file
    assert run(Threads(node("a")), retry_failed=True).ok == N - 1
    run(None, "local.h5")
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")


@pytest.mark.slow
def test_several_images_that_kill_every_worker_are_given_up_one_after_the_other(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    killers = [f"b/{i}.png" for i in (41, 43)]
    transport = Threads(node("a"))
    had: list[list[str]] = []
    deaths: list[int] = []

    def die(self: Any, load: Any) -> Any:
        had.append(load.ids)
        if set(killers) & set(load.ids):
            raise WorkerLostError("out of memory")
        return work(self, load)

    def vacate(self: Any, *arguments: Any, **options: Any) -> Any:
        seat = leave(self, *arguments, **options)
        deaths.append(seat.deaths)
        return seat

    work, leave = transport.make.run, seats.Seats.vacate
    monkeypatch.setattr(transport.make, "run", die)
    monkeypatch.setattr(seats.Seats, "vacate", vacate)
    monkeypatch.setattr(seats, "MAX_RETRY_SECONDS", 0.01)
    done = run(transport)
    assert sorted(done.failures) == ["a/10.png", *killers]
    alone = [ids[0] for ids in had if len(ids) == 1 and ids[0] in killers]
    assert alone == [name for name in dict.fromkeys(alone) for _ in range(3)]
    assert deaths[-3:] == [1, 2, 3]  # each time that one is known, a new worker may begin at once


@pytest.mark.parametrize("stage", ["build", "open", "run"])
def test_a_machine_whose_device_is_too_small_is_left_out_by_name(run: Callable[..., Any], stage: str) -> None:
    def refuse(key: str, method: str, value: Any, n: int) -> Any:
        if (key, method) == ("b", stage):
            raise DeviceError("the memory of cuda is too small")
        return value

    transport = Threads(node("a"), node("b"))
    transport.answer = refuse
    if stage == "build":
        with pytest.raises(ClusterError, match=r"^box-b: the memory of cuda is too small"):
            run(transport)
        return
    done = run(transport)
    assert done.ok == N - 1
    assert [note for note in done.notes if note == "box-b: the memory of cuda is too small. It is left out"]


def test_the_only_machine_tells_of_its_device_itself(run: Callable[..., Any]) -> None:
    def refuse(key: str, method: str, value: Any, n: int) -> Any:
        if method == "run":
            raise DeviceError("the memory of cuda is too small")
        return value

    transport = Threads(node("a"))
    transport.answer = refuse
    with pytest.raises(DeviceError, match=r"^the memory of cuda is too small$"):
        run(transport)


def test_parts_are_refused(run: Callable[..., Any]) -> None:
    with pytest.raises(ClusterError, match="parts are not needed on a cluster"):
        run(Threads(node("a")), shard=(1, 2))


@pytest.mark.slow
def test_a_cluster_of_ray_gives_the_same_file(images: Path, tmp_path: Path) -> None:
    """One node of Ray, the command line, and a picture that is broken."""
    ray = pytest.importorskip("ray")
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path(__file__).parents[2])}
    script = tmp_path / "run.py"
    script.write_text(RAY_SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(images), str(tmp_path)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "codes.h5") == content(tmp_path / "local.h5")
    summary = json.loads(done.stdout)
    assert (summary["n"], summary["failed"], summary["computed"]) == (N, 1, N)
    assert [one["images"] for one in summary["nodes"]] == [N]
    assert ray.__version__ not in done.stdout


def test_it_says_what_it_is() -> None:
    assert repr(RayCluster("h:1", mixed_nodes=True)) == "RayCluster('h:1', mixed_nodes=True)"
