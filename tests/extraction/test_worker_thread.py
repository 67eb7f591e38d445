"""What a worker makes of a piece: codes, reasons, and the rest of a piece that is not to be risked at once."""

from __future__ import annotations

import queue

import numpy as np
import pytest
from image_files import PNG
from tiny_network import Staged, own

from cnncodes.errors import DecodeError
from cnncodes.extraction.journal import Journal
from cnncodes.extraction.read_ahead import ReadAhead
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.extraction.worker_thread import NOT_FINITE, Batch, Piece, Result
from cnncodes.extraction.workers import Pool
from cnncodes.images.image_set import ImageSet
from cnncodes.images.stored_file import StoredFile

SETTINGS = Settings(backbone="own", layers="layer2", precision="fp32", device="cpu", batch_size=4, compile=False)


class _File(StoredFile):
    size = changed = -1

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_bytes(self) -> bytes:
        return self.data


def results_of(images: ImageSet, pool: Pool, *, apart: bool = False) -> list[tuple[Batch, Piece | None]]:
    """Give a piece to the only worker of a pool, and then what it leaves of it."""
    own_results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    piece: Piece | None = Piece(images, np.arange(len(images)), ReadAhead(images), own_results, apart)
    results = []
    while piece is not None:
        pool.shared.tasks.put(piece)
        result = own_results.get(timeout=30)
        assert not isinstance(result, BaseException)
        results.append(result)
        piece = result[1]
    return results


@pytest.fixture
def pool() -> Pool:
    own(Staged)
    network = build_network(SETTINGS)
    network.warm_up()
    return Pool(network, Journal(None, 1), 1)


def test_images_that_an_earlier_run_died_of_are_kept_one_by_one(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse_last(self: Journal, data: bytes, digest: bytes, seconds: float) -> None:
        tried.append(data)
        if data == b"killer":
            raise DecodeError("its decoder crashes")

    monkeypatch.setattr(Journal, "try_suspect", refuse_last)
    images = ImageSet(["a", "b", "killer"], [_File(PNG), _File(PNG), _File(b"killer")])
    results = results_of(images, pool, apart=True)
    pool.close()
    assert tried == [PNG, PNG, b"killer"]
    assert [batch.rows.tolist() for batch, _ in results] == [[0], [1], []]
    assert {row: reason for batch, _ in results for row, (reason, _) in batch.failures.items()} == {
        2: "its decoder crashes"
    }


def test_codes_that_are_no_numbers_are_a_failure_of_their_image_alone(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.shared, "network", Spoiled(pool.shared.network))
    pixels = np.zeros((3, 32, 32, 3), np.uint8)
    [(batch, rest)] = results_of(ImageSet([*"abc"], list(pixels)), pool)
    pool.close()
    assert rest is None
    assert batch.rows.tolist() == [0, 2]
    assert batch.failures[1][0] == NOT_FINITE
    assert len(batch.sha256) == len(batch.codes["layer2"]) == 2


class Spoiled:
    """A network that gives no numbers for the second image."""

    def __init__(self, network: object) -> None:
        self.network, self.backbone = network, network.backbone  # type: ignore[attr-defined]

    def __call__(self, pixels: object, slot: int) -> dict[str, np.ndarray]:
        codes: dict[str, np.ndarray] = self.network(pixels, slot)  # type: ignore[operator]
        codes["layer2"] = codes["layer2"].copy()
        codes["layer2"][1] = np.nan
        return codes


def test_whoever_waits_for_a_pool_that_is_closed_is_let_go(pool: Pool) -> None:
    images = ImageSet(["a"], [_File(PNG)])
    pool.close()
    with pytest.raises(RuntimeError, match="have been ended"):
        list(pool.run(images, np.arange(1)))
