"""A cluster of three nodes loses nothing: nodes, actors, decoders and drivers are killed, and the file is the local one.

``benchmarks/bench_cluster.py --faults N`` does the same at many more random moments.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_faults import (
    OPTIONS,
    differences,
    is_done,
    kill_while_it_extracts,
    local_file,
    make_harmful,
    make_images,
    plant_faults,
    wait_for,
)
from ray_nodes import RayNodes

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
    with RayNodes(tmp_path_factory.mktemp("nodes"), python_path=(faults,)) as cluster:
        for name in ("one", "two"):
            cluster.add(name, DECODE_SECONDS=str(DECODE_SECONDS))
        yield cluster


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_images(tmp_path_factory.mktemp("images"), N_IMAGES)
    make_harmful(folder)
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, images: Path, faults: Path) -> Path:
    return local_file(images, tmp_path_factory.mktemp("local") / "codes.h5", faults)
