"""A codes file is read as it was written, and what is damaged is found."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from plain_codes import CODES, IDS, LABELS, N

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.errors import CodesFileError


def test_what_is_written_is_read(path: Path) -> None:
    done = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    with CodesFile.open(path) as file:
        assert file.ids.tolist() == IDS
        assert file.labels.tolist() == LABELS
        assert file.classes == ["-tulip", "rosé"]
        assert file.layers == ["layer4", "layer1", "penultimate"]
        assert file.counts == {"pending": 1, "ok": 10, "failed": 1}
        assert file.state[[4, 5, 6]].tolist() == ["ok", "failed", "pending"]
        assert file.errors[5].startswith("broken JPEG éé")
        assert not file.complete
        np.testing.assert_array_equal(file.codes("layer1"), CODES["layer1"][done])
        codes = np.hstack([CODES["penultimate"], CODES["layer1"]])
        rows = np.array([11, 0, 7])
        np.testing.assert_array_equal(file.codes(["layer4", "layer1"], rows), codes[rows])
        assert file.rows("test").tolist() == [10, 11]
        assert file.table == ImageTable(
            IDS, LABELS, splits=["train"] * 10 + ["test"] * 2, sizes=list(range(N)), changed=[7] * N
        )


def test_reading_a_pending_or_damaged_row_is_refused(path: Path) -> None:
    with CodesFile.open(path) as file, pytest.raises(CodesFileError, match=r"pending or damaged.*run the same"):
        file.codes("layer1", np.array([5, 6]))
    with h5py.File(path, "r+") as h5:
        h5["codes/layer1"][2, 1] = np.nan
    with CodesFile.open(path) as file:
        with pytest.raises(CodesFileError, match="1 row"):
            file.codes("layer1")
        assert len(file.codes("penultimate")) == 10


def test_mutated_data_never_reads_as_good(path: Path) -> None:
    """Flip bytes in rows, digests, states and checksums: each row that is accepted has its own values."""
    with h5py.File(path) as h5:
        names = ["codes/layer1", "codes/penultimate", "images/sha256", "images/state", "images/crc32"]
        spans = [(h5[name].id.get_offset(), h5[name].id.get_storage_size()) for name in names]
    original = path.read_bytes()
    places = np.concatenate([np.arange(start, start + size) for start, size in spans])
    rng = np.random.default_rng(1)
    for _ in range(400):
        mutated = bytearray(original)
        mutated[rng.choice(places)] ^= int(rng.integers(1, 256))
        path.write_bytes(mutated)
        with CodesFile.open(path) as file:
            good = file.good() & ~file.failed[:, None]
            assert good.sum() >= 2 * 10 - 2
            for column, name in enumerate(file.stored_layers):
                rows = np.flatnonzero(good[:, column])
                np.testing.assert_array_equal(file.codes(name, rows), CODES[name][rows])


def test_no_layer_names_the_nearest(path: Path) -> None:
    with CodesFile.open(path) as file, pytest.raises(CodesFileError, match=r"'layer5'.*Did you mean.*layers=.'layer5'"):
        file.codes("layer5")


def test_progress_counts_the_rows_of_each_stored_layer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.codes.file.CHUNK_BYTES", 1)  # a row at a time
    calls: list[tuple[int, int, int]] = []
    with CodesFile.open(path) as file:
        assert len(file.verify(lambda *counts: calls.append(counts))) == 0
    assert calls[-1] == (22, 22, 0)  # ten images with codes and one that failed, in two layers
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
