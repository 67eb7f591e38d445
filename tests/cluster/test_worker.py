"""A worker on a node gives the codes that this process would, and knows what its predecessor died of."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_network import Staged, own

from cnncodes import __version__
from cnncodes.cluster.worker import Load, NodeWorker, Sample, SentBytes
from cnncodes.extraction.engine import Work
from cnncodes.extraction.in_memory import in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.image_set import ImageSet
from cnncodes.runtime.workload import Workload

SETTINGS = Settings(backbone="own", layers="layer2", precision="fp32", device="cpu", batch_size=4, compile=False)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeWorker]:
    own(Staged)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    worker = NodeWorker()
    yield worker
    worker.close()
    assert list(tmp_path.glob("cnncodes-*")) == []


def test_codes_are_those_of_this_process_at_their_rows(worker: NodeWorker) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    ready = worker.build(SETTINGS, Workload(), warm=True)
    assert ready.facts.provenance.layers.keys() == {"layer2"}
    worker.open(("layer2",), Work(thumbnails=True), 2, "job", [])
    rows = np.arange(100, 110)
    ids = [str(row) for row in rows]
    sources = [*pixels[:9], SentBytes(b"no image")]
    batch = worker.run(Load(rows, ids, sources, {"103": "is known to be broken"}))
    assert batch.failures[103][0] == "is known to be broken"
    assert "not an image" in batch.failures[109][0]
    assert batch.failures[109][1].tobytes() == hashlib.sha256(b"no image").digest()
    assert batch.rows.tolist() == [100, 101, 102, 104, 105, 106, 107, 108]
    expected = in_memory(ImageSet(ids[:9], list(pixels[:9])), build_network(SETTINGS)).codes["layer2"]
    np.testing.assert_array_equal(batch.codes["layer2"], expected[[0, 1, 2, 4, 5, 6, 7, 8]])
    assert batch.thumbnails is not None
    assert len(batch.thumbnails) == 8


def test_the_next_worker_of_a_place_knows_what_was_being_decoded(worker: NodeWorker, tmp_path: Path) -> None:
    folder = tmp_path / "cnncodes-job-job"
    folder.mkdir()
    (folder / ".codes.decoding").write_bytes(bytes(32) + b"s" * 32)
    worker.build(SETTINGS, Workload(), warm=False)
    assert worker.open(("layer2",), Work(), 1, "job", []).suspects == {b"s" * 32}


def test_it_says_whether_it_reads_the_same_files(worker: NodeWorker, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    worker.build(SETTINGS, Workload(), warm=False)
    good = Sample(tmp_path / "a.png", hashlib.sha256(b"a").digest())
    for samples, reads in (([good], True), ([good, Sample(good.source, bytes(32))], False)):
        assert worker.open(("layer2",), Work(), 1, "job", samples).reads == reads
    assert not worker.open(("layer2",), Work(), 1, "job", [Sample(tmp_path / "b.png", bytes(32))]).reads


def test_it_tells_versions_without_a_network() -> None:
    assert NodeWorker().hello()["cnncodes"] == __version__
