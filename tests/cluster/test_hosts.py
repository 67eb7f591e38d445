"""Machines that share nothing but a network: files are sent, and one that vanishes without a word costs nothing.

Each machine is a set of Linux namespaces, which takes the rights of root; elsewhere these tests are skipped.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_faults import (
    OPTIONS,
    differences,
    kill_while_it_extracts,
    local_file,
    make_harmful,
    make_images,
    plant_faults,
)
from ray_hosts import RayHosts, can_be_made

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not can_be_made(), reason="needs the right to make networks and machines of its own"),
]

N_IMAGES = 600
PACE = {"DECODE_SECONDS": "0.03"}


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_images(tmp_path_factory.mktemp("images"), N_IMAGES)
    make_harmful(folder)
    return folder


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, images: Path, faults: Path) -> Iterator[RayHosts]:
    pytest.importorskip("ray", reason="needs the extra [ray]")
    folder = tmp_path_factory.mktemp("hosts")
    names = ("boss", "ann", "bob")
    with RayHosts(folder, names, hidden=(images,), environment=PACE, python_path=(faults,)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, images: Path, faults: Path) -> Path:
    return local_file(images, tmp_path_factory.mktemp("local") / "codes.h5", faults)


def test_a_machine_that_vanishes_without_a_word_costs_no_row(
    hosts: RayHosts, images: Path, reference: Path, tmp_path: Path
) -> None:
    assert [bool(hosts.files_at(name, images)) for name in hosts.names] == [True, False, False]

    def unplug(generator: random.Random) -> int:
        hosts.unplug("ann")
        return 1

    out = tmp_path / "codes.h5"
    ordeal = kill_while_it_extracts(hosts, images, out, unplug, n=1, seed=0, pauses=(2, 2))
    hosts.remove("ann")
    assert ordeal.kills == 1
    assert differences(out, reference) == []
    assert sorted(node["name"] for node in ordeal.summary["nodes"]) == ["ann", "bob", "boss"]
    assert "its decoder crashes (signal 11)" in ordeal.summary["failures"]["a/00100-killer.bmp"]


def test_a_wrong_token_is_one_line(hosts: RayHosts, images: Path, tmp_path: Path) -> None:
    foreign = {"RAY_AUTH_TOKEN": "0" * 64, "RAY_NUM_REDIS_GET_RETRIES": "2"}  # Ray tries 20 times, a second apart
    driver = hosts.driver("extract", images, "-o", tmp_path / "codes.h5", *OPTIONS, cwd=tmp_path, **foreign)
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert stderr.startswith(f"error: the Ray cluster at {hosts.address} does not accept the token of this machine")
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "codes.h5").exists()
