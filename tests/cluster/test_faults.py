"""A cluster of three nodes loses nothing: nodes, actors, decoders and drivers are killed, and the file stays the same.

``benchmarks/bench_cluster.py --faults N`` does the same at many more random moments.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_faults import (
    CUT,
    OPTIONS,
    content,
    differences,
    has_more_rows,
    is_done,
    kill_while_it_extracts,
    local_file,
    make_harmful,
    make_images,
    plant_faults,
    wait_for,
)
from ray_nodes import REPOSITORY, RayNodes

from cnncodes import __version__, extract
from cnncodes.networks.weights import file_digest
from cnncodes.system.shipped import EMBEDDED_WEIGHTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_IMAGES = 900
MOMENTS = 3  # at which something is killed
DECODE_SECONDS = 0.03


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, faults: Path) -> Iterator[RayNodes]:
    pytest.importorskip("ray", reason="needs the extra [ray]")
    pace = {"DECODE_SECONDS": str(DECODE_SECONDS)}
    with RayNodes(tmp_path_factory.mktemp("nodes"), environment=pace, python_path=(faults,)) as cluster:
        for name in ("one", "two"):
            cluster.add(name)
        yield cluster


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_images(tmp_path_factory.mktemp("images"), N_IMAGES)
    make_harmful(folder)
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, images: Path, faults: Path) -> Path:
    return local_file(images, tmp_path_factory.mktemp("local") / "codes.h5", faults)


def kill_something(nodes: RayNodes) -> Callable[[random.Random], int]:
    """Return what kills a node, or the actors of one, and brings the node back."""

    def kill(generator: random.Random) -> int:
        name = generator.choice(["one", "two"])
        if generator.random() < 0.5:
            return nodes.kill_actors(generator.choice(["head", name]))
        nodes.kill_node(name)
        nodes.add(name)
        return 1

    return kill


def test_killed_nodes_actors_and_decoders_cost_no_row(
    nodes: RayNodes, images: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "codes.h5"
    ordeal = kill_while_it_extracts(nodes, images, out, kill_something(nodes), n=MOMENTS, seed=0, pauses=(0.5, 3.0))
    assert differences(out, reference) == []
    assert ordeal.kills >= 1
    assert ordeal.returncode == 3
    assert set(ordeal.summary["failures"]) == {"a/00100-killer.bmp", "b/00101-cut.bmp"}
    assert "its decoder crashes (signal 11)" in ordeal.summary["failures"]["a/00100-killer.bmp"]
    assert sum(node["images"] for node in ordeal.summary["nodes"]) == N_IMAGES + 2


def test_killed_or_interrupted_drivers_leave_rows_that_the_next_run_keeps(
    nodes: RayNodes, images: Path, reference: Path, tmp_path: Path
) -> None:
    out, kept = tmp_path / "codes.h5", 0
    for number in (signal.SIGKILL, signal.SIGINT):
        driver = nodes.driver("extract", images, "-o", out, *OPTIONS, cwd=tmp_path)
        try:
            wait_for(has_more_rows(out, kept), driver)
            driver.send_signal(number)
            _, stderr = driver.communicate(timeout=60)
        finally:
            driver.kill()
        assert driver.returncode == (130 if number == signal.SIGINT else -number), stderr
        assert is_done(out).sum() > kept
        kept = int(is_done(out).sum())
        assert kept < N_IMAGES
    assert "interrupted; what is done is kept" in stderr
    assert "Traceback" not in stderr
    wait_until_idle(nodes)
    ordeal = kill_while_it_extracts(nodes, images, out, lambda _: 0, n=0, seed=0, pauses=(0, 0))
    assert differences(out, reference) == []
    assert ordeal.summary["computed"] <= N_IMAGES + 2 - kept


def wait_until_idle(nodes: RayNodes) -> None:
    """Wait until no node has an actor: those of a driver end with it."""
    deadline = time.monotonic() + 60
    while any(nodes.actors(name) for name in nodes.raylets):
        assert time.monotonic() < deadline, "actors outlive their driver"
        time.sleep(0.1)


def test_a_node_ten_times_slower_does_not_hold_up_the_end(
    nodes: RayNodes, images: Path, reference: Path, tmp_path: Path
) -> None:
    nodes.kill_node("two")
    nodes.add("two", DECODE_SECONDS=str(10 * DECODE_SECONDS))
    out = tmp_path / "codes.h5"
    ordeal = kill_while_it_extracts(nodes, images, out, lambda _: 0, n=0, seed=0, pauses=(0, 0))
    assert differences(out, reference) == []
    # While Ray still lists the dead node of this name, the new one is called "two (3d7885)"
    nodes_by_name = {node["name"].split()[0]: node for node in ordeal.summary["nodes"]}
    assert nodes_by_name["two"]["images_per_second"] < 0.5 * nodes_by_name["one"]["images_per_second"]
    assert nodes_by_name["two"]["images"] < N_IMAGES / 9  # its first two units alone are 136
    nodes.kill_node("two")
    nodes.add("two")


def test_nodes_of_another_version_or_with_other_weights_are_refused_by_name(
    nodes: RayNodes, images: Path, tmp_path: Path
) -> None:
    for name, change in (("older", other_version), ("foreign", other_weights)):
        package = copy_package(tmp_path / name)
        change(package)
        path = [str(package), *map(str, nodes.python_path)]
        nodes.add(name, PYTHONPATH=os.pathsep.join(path))
    try:
        driver = nodes.driver("extract", images, "-o", tmp_path / "codes.h5", *OPTIONS, cwd=tmp_path)
        _, stderr = driver.communicate(timeout=300)
    finally:
        driver.kill()
        for name in ("older", "foreign"):
            nodes.kill_node(name)
    last = stderr.strip().splitlines()[-1]
    assert driver.returncode == 1
    assert last.startswith("error: ")
    assert "older" in last
    assert "0.0.9" in last
    assert "foreign" in last
    assert "weights" in last
    assert not (tmp_path / "codes.h5").exists()


def copy_package(folder: Path) -> Path:
    shutil.copytree(REPOSITORY / "cnncodes", folder / "cnncodes", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "data" / "weights", folder / "data" / "weights")
    for path in (REPOSITORY / "data").iterdir():
        if path.name != "weights":
            (folder / "data" / path.name).symlink_to(path)
    return folder


def other_version(package: Path) -> None:
    edit(package / "cnncodes" / "__init__.py", f'"{__version__}"', '"0.0.9"')


def other_weights(package: Path) -> None:
    """Change the file of weights, and what the package knows of it."""
    import torch

    path = package / "data" / EMBEDDED_WEIGHTS
    before = file_digest(path)
    state = torch.load(path, weights_only=True)
    state["features.0.0.weight"] *= 1.01
    torch.save(state, path)
    edit(package / "cnncodes" / "networks" / "weights.py", before, file_digest(path))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


# The folder has changed since the file was begun without a cluster; then layers and maps are added
STEPS = """
import sys
from cnncodes import RayCluster, extract

options = dict(image_size=32, precision="fp32", compile=False, views="flip")
options |= {"cluster": RayCluster(sys.argv[1])} if len(sys.argv) > 1 else {}
extract("images", "codes.h5", prune=True, **options)
extract("images", "codes.h5", layers=["layer1", "layer3"], maps="layer3", retry_failed=True, thumbnails=True, **options)
"""


def test_changed_folders_added_layers_maps_and_views_are_as_without_a_cluster(nodes: RayNodes, tmp_path: Path) -> None:
    local, cluster = tmp_path / "local", tmp_path / "cluster"
    images = make_images(local / "images", 60)
    (images / "b" / "cut.bmp").write_bytes(CUT)
    options: dict[str, Any] = {"image_size": 32, "precision": "fp32", "compile": False, "views": "flip"}
    extract(images, local / "codes.h5", layers="layer1", thumbnails=False, **options)
    first, second, *_ = sorted((images / "a").iterdir())
    first.write_bytes(second.read_bytes()[:-3] + b"xyz")
    second.rename(images / "b" / "moved.bmp")
    make_images(images, 20, first=100)
    shutil.copytree(local, cluster)
    for folder, address in ((local, []), (cluster, [nodes.address])):
        environment = {**nodes.environment, "PYTHONPATH": str(REPOSITORY)}
        subprocess.run([sys.executable, "-c", STEPS, *address], cwd=folder, env=environment, check=True)
    datasets = content(local / "codes.h5")
    assert datasets["maps/layer3"].shape[:2] == (81, 2)
    assert (datasets["images/state"] != 0).all()
    assert differences(cluster / "codes.h5", local / "codes.h5", "images/changed_ns") == []
