"""What is sent to a worker: paths or bytes, never more than memory holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cnncodes.cluster import loads
from cnncodes.cluster.loads import Loader
from cnncodes.cluster.units import Unit
from cnncodes.cluster.worker import SentBytes
from cnncodes.images.image_set import ImageSet

NO_DIGEST = np.zeros(32, np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Six files of ten bytes, of which 2 is missing, and pixels."""
    for i in (0, 1, 3, 4, 5):
        (tmp_path / f"{i}.png").write_bytes(b"%010d" % i)
    sources = [tmp_path / f"{i}.png" for i in range(6)]
    return ImageSet([*"012345", "pixels"], [*sources, np.zeros((8, 8, 3), np.uint8)], failures={"5": "is no file"})


def test_a_worker_that_reads_gets_paths_that_hold_anywhere(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images.sources[0].parent)  # type: ignore[union-attr]
    images.sources[0] = Path("0.png")  # type: ignore[index]
    load = Loader(images, np.arange(7), 0).load(Unit(np.array([0, 5, 6])), True, {b"x"})
    assert load.sources[0] == str(Path.cwd() / "0.png")
    assert load.sources[2] is images.sources[6]
    assert load.failures == {"5": "is no file"}
    assert (load.ids, load.suspects, load.apart) == (["0", "5", "pixels"], frozenset({b"x"}), False)


def test_another_gets_bytes_or_the_reason(images: ImageSet) -> None:
    load = Loader(images, np.arange(7), 0).load(Unit(np.array([1, 2, 6])), False, ())
    assert load.sources[0] == SentBytes(b"0000000001")
    assert load.sources[0].read_bytes() == b"0000000001"
    assert "no such file" in load.failures["2"].lower()
    assert load.sources[2] is images.sources[6]


def test_samples_are_files_that_can_be_read(images: ImageSet) -> None:
    samples = Loader(images, np.arange(7), 0).samples
    names = [sample.source.name for sample in samples]  # type: ignore[union-attr]
    assert len(set(names)) == 3
    assert set(names) <= {"0.png", "1.png", "3.png", "4.png"}
    for name, sample in zip(names, samples, strict=True):
        assert sample.sha256 == hashlib.sha256(b"000000000" + name[:1].encode()).digest()


def test_no_more_is_sent_than_memory_holds(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "UNIT_BYTES", 25)
    assert Loader(images, np.arange(7), 0).limit(np.array([0, 1, 3, 4]), True) == 2
    assert Loader(images, np.arange(7), 12).limit(np.array([0, 1, 3, 4]), True) == 2  # what comes back counts, too
    monkeypatch.setattr(Path, "stat", lambda *_, **__: pytest.fail("a file was asked for its size in vain"))
    assert Loader(images, np.arange(0), 0).limit(np.array([0, 1, 3, 4]), False) == 4
    assert Loader(images, np.arange(0), 12).limit(np.array([0, 1, 3, 4]), False) == 2
    assert Loader(images, np.arange(0), 0).limit(np.array([6, 0]), False) == 1  # one goes in any case


def test_only_files_that_were_not_read_are_tried_again(images: ImageSet) -> None:
    failures = {0: ("gone", NO_DIGEST), 1: ("broken", NO_DIGEST + 1), 5: ("no file", NO_DIGEST), 6: ("odd", NO_DIGEST)}
    assert Loader(images, np.arange(7), 0).unread(failures) == {0}
