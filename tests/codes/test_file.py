"""A codes file is read as it was written, and what is damaged is found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from plain_codes import CODES, DIGESTS, IDS, LABELS, PROVENANCE, N, write

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.structure import extents
from cnncodes.codes.thumbnails import pack
from cnncodes.codes.writer import CodesWriter
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


@contextlib.contextmanager
def refused_in_one_line() -> Iterator[None]:
    """Let our error pass, if it is one line."""
    try:
        yield
    except CodesFileError as error:
        if len(str(error).splitlines()) > 1:
            raise


def look(path: Path) -> dict[str, Any]:
    """Everything that is read of a file, by name; what is refused is None."""
    values: dict[str, Any] = {}

    def read(name: str, reader: Callable[[CodesFile], Any]) -> None:
        values[name] = None
        with refused_in_one_line():
            values[name] = reader(file)

    with refused_in_one_line(), CodesFile.open(path) as file:
        for name in ("ids", "labels", "groups", "splits", "errors", "state", "classes", "table"):
            read(name, lambda file, name=name: getattr(file, name))
        read("provenance", lambda file: file.provenance.to_json())
        read("sha256", lambda file: file.sha256[DONE])  # the row that is pending has none yet
        for name in file.layers:
            read(name, lambda file, name=name: file.codes(name, DONE))
        read("maps", lambda file: file.maps("layer1", DONE)[:])
        read("thumbnails", lambda file: file.thumbnails(DONE))
        read("found", lambda file: bool(len(file.verify()) or file.damaged_columns() or file.counts["pending"] > 1))
    return values


DONE = np.array([0, 1, 2, 3, 4, 7, 8, 9, 10, 11])


@pytest.fixture
def everything(memory_path: Path) -> Path:
    """A file with all that there may be in one: groups, splits, maps, pictures, a failure, a row that is pending."""
    path, splits = memory_path / "codes.h5", ["train"] * 10 + ["test"] * 2
    table = ImageTable(IDS, LABELS, [f"g{i // 2}" for i in range(N)], splits, [*range(N)], [7] * N)
    CodesWriter.create(path, table, replace(PROVENANCE, maps={"layer1": (3, 8, 8)}), thumbnails=True)
    maps = np.random.default_rng(1).random((len(DONE), 3, 8, 8)).astype(np.float16)
    with CodesWriter(path) as file:
        file.write(DONE, {"maps/layer1": maps}, DIGESTS[DONE])
        write(file, DONE[:5].tolist())
        write(file, DONE[5:].tolist())
        pictures = np.random.default_rng(0).integers(0, 256, (len(DONE), 64, 64, 3), np.uint8)
        file.write_thumbnails(DONE, pack(pictures, np.full((len(DONE), 2), 70)), DIGESTS[DONE])
        file.fail(5, "broken JPEG é", DIGESTS[5])
    return path


def damaged(content: bytes, spans: list[tuple[int, int]], rng: np.random.Generator) -> bytearray:
    """The content of a file with one place changed: a bit, a byte, some bytes, a sector of zeros or of other data."""
    changed, kind = bytearray(content), rng.integers(5)
    start, size = spans[rng.integers(len(spans))]
    at = start + int(rng.integers(size))
    sector = at - at % 512
    if kind == 0:
        changed[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        changed[at] = int(rng.integers(256))
    elif kind == 2:
        changed[at : min(at + 8, len(changed))] = rng.bytes(min(8, len(changed) - at))
    elif kind == 3:
        changed[sector : sector + 512] = bytes(len(changed[sector : sector + 512]))
    else:
        other = int(rng.integers(len(changed) // 512)) * 512
        changed[sector : sector + 512] = changed[other : other + len(changed[sector : sector + 512])]
    assert len(changed) == len(content)
    return changed


@pytest.mark.parametrize("count", [120, pytest.param(6000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_damage_changes_anything_in_silence(count: int, everything: Path) -> None:
    """Structure, columns and layers are damaged alike: whatever is read is as it was, or refused, or found."""
    content, expected, rng = everything.read_bytes(), look(everything), np.random.default_rng(0)
    assert not expected["found"]
    with h5py.File(everything) as h5:
        places = extents(h5)
    structure = (0, min(offset for offset, _ in places.values()))
    spans = [structure] * 5 + [*places.values()]
    refused = seen = 0
    for _ in range(count):
        changed = damaged(content, spans, rng)
        everything.write_bytes(changed)
        values = look(everything)
        refused += not values
        if values and changed != content:
            silent = [name for name in values if values[name] is not None and not same(values[name], expected[name])]
            assert not silent or values["found"], silent
            seen += values["found"]
    assert refused > count / 10
    assert seen > count / 10


def same(value: Any, expected: Any) -> bool:
    return np.array_equal(value, expected) if isinstance(expected, np.ndarray) else value == expected


def test_no_layer_names_the_nearest(path: Path) -> None:
    with CodesFile.open(path) as file, pytest.raises(CodesFileError, match=r"'layer5'.*Did you mean.*layers=.'layer5'"):
        file.codes("layer5")


def test_progress_counts_the_rows_of_each_stored_layer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.codes.checksums.CHUNK_BYTES", 1)  # a row at a time
    calls: list[tuple[int, int, int]] = []
    with CodesFile.open(path) as file:
        assert len(file.verify(lambda *counts: calls.append(counts))) == 0
    assert calls[-1] == (22, 22, 0)  # ten images with codes and one that failed, in two layers
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
