"""Files are read before they are needed, in bounds, and nobody waits for what nobody reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_files import PNG

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.extraction import read_ahead
from cnncodes.extraction.in_memory import in_memory
from cnncodes.extraction.read_ahead import ReadAhead
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.extraction.workers import run_batches
from cnncodes.images.image_set import ImageSet
from cnncodes.images.stored_file import StoredFile


class _Distant(StoredFile):
    """A file that takes a while, or hangs until it is let go."""

    is_distant = True
    size, changed = -1, -1

    def __init__(self, service: _Service, data: bytes, size: int = -1) -> None:
        self.service, self.data, self.size = service, data, size

    def read_bytes(self) -> bytes:
        with self.service.reading():
            if self.data == b"hangs":
                self.service.let_go.wait()
            if self.data in (b"", b"hangs"):
                raise DecodeError("it is gone")
            if self.data == b"down":
                raise ImagesError("the network is gone")
            return self.data


class _Service:
    """Answers after a while, and when so many have asked together; counts how many ask at a time."""

    def __init__(self, seconds: float = 0.0, together: int = 1) -> None:
        self.seconds, self.lock, self.let_go = seconds, threading.Lock(), threading.Event()
        self.together, self.enough = together, threading.Event()
        self.now = self.most = self.total = 0

    def reading(self) -> _Service:
        return self

    def wait_for(self, total: int) -> None:
        """Wait until so many have asked, and then a moment for those who should not."""
        while self.total < total:
            time.sleep(0.01)
        time.sleep(0.1)

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)
            if self.now == self.together:
                self.enough.set()
        self.enough.wait(30)
        time.sleep(self.seconds)

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.now -= 1


@pytest.fixture
def service() -> Iterator[_Service]:
    service = _Service()
    yield service
    service.let_go.set()


def images_of(*sources: object) -> ImageSet:
    return ImageSet([f"{i}.png" for i in range(len(sources))], list(sources))


def test_answers_are_waited_for_together() -> None:
    service = _Service(together=60)  # one after the other, each would wait for 30 s
    images = images_of(*(_Distant(service, b"%d" % i) for i in range(60)))
    with ReadAhead(images) as ahead:
        ahead.ask(range(60))
        assert [ahead.read(row) for row in range(60)] == [b"%d" % i for i in range(60)]
    assert service.most == service.total == 60


def test_what_waits_to_be_taken_is_bounded(service: _Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "MAX_BYTES_AHEAD", 1000)
    images = images_of(*(_Distant(service, bytes([i]) * 300, 300) for i in range(40)))
    with ReadAhead(images) as ahead:
        ahead.ask(range(40))
        service.wait_for(3)
        assert service.total == 3
        assert ahead.read(39) == bytes([39]) * 300  # nobody has begun with it
        for row in range(39):
            assert ahead.read(row) == bytes([row]) * 300
        assert service.total == 40


def test_what_is_dropped_makes_room(service: _Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "MAX_BYTES_AHEAD", 500)
    sources = [_Distant(service, b"hangs", 400), *(_Distant(service, b"x" * 400, 400) for _ in range(3))]
    with ReadAhead(images_of(*sources)) as ahead:
        ahead.ask(range(4))
        service.wait_for(1)
        assert service.total == 1
        ahead.drop(0)
        service.wait_for(2)
        assert service.total == 2
        service.let_go.set()
        assert [ahead.read(row) for row in (1, 2, 3)] == [b"x" * 400] * 3
        assert ahead._bytes_ahead == 0


def test_errors_reach_whoever_takes_the_row(service: _Service) -> None:
    with ReadAhead(images_of(_Distant(service, b""), _Distant(service, b"down"), _Distant(service, b"x"))) as ahead:
        ahead.ask(range(3))
        with pytest.raises(DecodeError, match="it is gone"):
            ahead.read(0)
        with pytest.raises(ImagesError, match="the network is gone"):
            ahead.read(1)
        assert ahead.read(2) == b"x"


def test_files_on_the_disk_and_large_ones_are_read_when_they_are_needed(service: _Service, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with ReadAhead(images_of(tmp_path / "a.png", _Distant(service, b"x", 1 << 30))) as ahead:
        ahead.ask(range(2))
        assert not ahead._queue
        assert ahead._n_threads == 0
        assert ahead.read(0) == PNG


def test_many_take_rows_at_a_time_and_none_is_lost() -> None:
    service = _Service(0.001)
    images = images_of(*(_Distant(service, b"%d" % i) for i in range(600)))
    with ReadAhead(images) as ahead, ThreadPoolExecutor(8) as pool:
        for start in range(0, 600, 100):
            ahead.ask(range(start, start + 100))
        assert list(pool.map(ahead.read, reversed(range(600)))) == [b"%d" % i for i in reversed(range(600))]
        assert not ahead._readings
        assert ahead._bytes_ahead == 0


def test_codes_of_distant_files_are_those_of_files(service: _Service, tmp_path) -> None:
    network = build_network(Settings(layers="penultimate", image_size=32, precision="fp32", batch_size=4))
    (tmp_path / "a.png").write_bytes(PNG)
    one = in_memory(images_of(tmp_path / "a.png"), network)
    sources = [_Distant(service, PNG) for _ in range(10)]
    sources[3] = _Distant(service, b"")
    several = in_memory(images_of(*sources), network, workers=2)
    assert several.failures == {3: "it is gone"}
    assert service.total == 10
    np.testing.assert_array_equal(several.codes["penultimate"], one.codes["penultimate"].repeat(9, axis=0))
    with pytest.raises(ImagesError, match="the network is gone"):
        in_memory(images_of(*sources[:3], _Distant(service, b"down")), network)


def test_a_read_that_hangs_costs_its_image_only(service: _Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.extraction.workers.WATCH_SECONDS", 0.05)
    network = build_network(Settings(layers="penultimate", image_size=32, precision="fp32", batch_size=4))
    sources = [_Distant(service, PNG) for _ in range(10)]
    sources[5] = _Distant(service, b"hangs")
    batches = list(run_batches(images_of(*sources), np.arange(10), network, workers=2, image_timeout=0.5))
    failures = {row: text for batch in batches for row, (text, _) in batch.failures.items()}
    assert failures == {5: "it was not read within 0.5 seconds; give it more by image_timeout of extract"}
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
