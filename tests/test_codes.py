"""The codes file: what is written is read, what is damaged is found, one writer at a time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnncodes.codes import CodesFile, CodesWriter, load_codes
from cnncodes.codes_layout import ImageTable
from cnncodes.errors import CodesFileError

DESCRIPTION = {
    "backbone": "tiny",
    "weights": "none",
    "layers": {
        "layer4": {"n_features": 5, "pooling": "avg", "map_shape": [5, 2, 2]},
        "layer1": {"n_features": 3, "pooling": "avg", "map_shape": [3, 8, 8]},
        "penultimate": {"n_features": 5, "pooling": "avg", "map_shape": [5]},
    },
    "links": {"layer4": "penultimate"},
}
N = 12
IDS = [f"rosé/{i}\n🌹.png" for i in range(N - 1)] + ["-tulip/0.png"]
LABELS = ["rosé"] * (N - 1) + ["-tulip"]
rng = np.random.default_rng(0)
CODES = {"layer1": rng.random((N, 3), np.float32), "penultimate": rng.random((N, 5), np.float32)}
DIGESTS = rng.integers(1, 256, (N, 32)).astype(np.uint8)


def write(file: CodesWriter, rows: list[int]) -> None:
    file.write(np.array(rows), {name: codes[rows] for name, codes in CODES.items()}, DIGESTS[rows])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Rows 0-4 and 7-11 are done, 5 failed, 6 is pending."""
    path = tmp_path / "codes.h5"
    table = ImageTable(IDS, LABELS, splits=["train"] * 10 + ["test"] * 2, sizes=list(range(N)), mtimes=[7] * N)
    CodesFile.create(path, table, DESCRIPTION)
    with CodesWriter(path) as file:
        write(file, [0, 1, 2, 3, 4])
        write(file, [7, 8, 9, 10, 11])
        file.fail(5, "broken\nJPEG " + "é" * 200, DIGESTS[5])
    return path


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
        both = np.hstack([CODES["penultimate"], CODES["layer1"]])
        rows = np.array([11, 0, 7])
        np.testing.assert_array_equal(file.codes(["layer4", "layer1"], rows), both[rows])
        assert file.rows("test").tolist() == [10, 11]
        assert file.table == ImageTable(
            IDS, LABELS, splits=["train"] * 10 + ["test"] * 2, sizes=list(range(N)), mtimes=[7] * N
        )


def test_load_codes_gives_codes_and_labels(path: Path) -> None:
    X, y = load_codes(path, "layer1", split="train", return_X_y=True)
    np.testing.assert_array_equal(X, CODES["layer1"][[0, 1, 2, 3, 4, 7, 8, 9]])
    assert y.tolist() == ["rosé"] * 8
    assert load_codes(path, ["layer1", "penultimate"]).shape == (10, 8)


def test_plain_h5py_reads_it_in_three_lines(path: Path) -> None:
    with h5py.File(path) as h5:
        done = h5["images/state"][:] == 1
        X = h5["codes/penultimate"][done]
        y = h5["images/label"].asstr()[done]
    np.testing.assert_array_equal(X, CODES["penultimate"][[0, 1, 2, 3, 4, 7, 8, 9, 10, 11]])
    assert y[-1] == "-tulip"


def test_equal_layers_are_stored_once(path: Path) -> None:
    with h5py.File(path) as h5:
        addresses = {name: h5py.h5o.get_info(h5[f"codes/{name}"].id).addr for name in DESCRIPTION["layers"]}
    assert addresses["layer4"] == addresses["penultimate"] != addresses["layer1"]


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    orders = [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]], [[8, 9, 10, 11], [0, 2], [1, 3], [4, 5, 6, 7]]]
    sums = set()
    for number, order in enumerate(orders):
        path = tmp_path / f"{number}.h5"
        CodesFile.create(path, ImageTable(IDS, LABELS), DESCRIPTION)
        for rows in order:
            with CodesWriter(path) as file:
                write(file, rows)
        sums.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(sums) == 1


def test_todo_lists_pending_damaged_and_unread_rows(path: Path) -> None:
    with CodesWriter(path) as file:
        assert file.todo() == ([6], ["layer1", "penultimate"])
        file.fail(9, "no permission to read it", np.zeros(32, np.uint8))
        assert file.todo()[0].tolist() == [6, 9]
    with h5py.File(path, "r+") as h5:
        h5["codes/layer1"][2, 1] += 1e-3
        h5["images/sha256"][3, 0] ^= 1
    with CodesWriter(path) as file:
        assert file.todo()[0].tolist() == [2, 3, 6, 9]
        assert file.verify().tolist() == [2, 3]


def test_layers_can_be_filled_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "codes.h5"
    CodesFile.create(path, ImageTable(IDS, LABELS), DESCRIPTION)
    every = np.arange(N)
    with CodesWriter(path) as file:
        file.write(every, {"layer1": CODES["layer1"]}, DIGESTS)
        assert file.counts["pending"] == N
        assert file.present("layer1").all()
        assert not file.present("layer4").any()
        assert file.todo()[1] == ["penultimate"]
        np.testing.assert_array_equal(file.codes("layer1", every), CODES["layer1"])
        file.write(every, {"penultimate": CODES["penultimate"]}, DIGESTS)
        assert file.complete
        np.testing.assert_array_equal(file.codes("layer4"), CODES["penultimate"])


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


def test_a_second_writer_is_refused_and_readers_are_not(path: Path) -> None:
    before = path.read_bytes()
    with CodesWriter(path):
        with pytest.raises(CodesFileError, match="is writing to it"):
            CodesWriter(path)
        script = f"from cnncodes.codes import CodesWriter; CodesWriter({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "is writing to it" in done.stderr
        with CodesFile.open(path) as file:
            assert file.counts["ok"] == 10
    assert path.read_bytes() == before
    with CodesWriter(path) as file:
        assert file.n == N


def test_no_layer_names_the_nearest(path: Path) -> None:
    with CodesFile.open(path) as file, pytest.raises(CodesFileError, match=r"'layer5'.*Did you mean.*--layer layer5"):
        file.codes("layer5")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such codes file"), (b"", "not a codes file"), (b"hello", "not a codes file")],
)
def test_what_is_no_codes_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CodesFileError, match=message):
        CodesFile.open(path)
    with pytest.raises(CodesFileError, match=message):
        CodesWriter(path)
    assert not path.exists() or path.read_bytes() == content


def test_other_hdf5_files_and_newer_formats_are_refused(path: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["X"] = np.ones(3)
    with pytest.raises(CodesFileError, match="not a codes file"):
        CodesFile.open(tmp_path / "other.h5")
    with h5py.File(path, "r+") as h5:
        h5.attrs.modify("format_version", 99)
    with pytest.raises(CodesFileError, match="version 99 is newer"):
        CodesFile.open(path)


def test_a_file_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CodesFileError, match="cannot be written"):
        CodesFile.create(tmp_path / "no" / "codes.h5", ImageTable(IDS), DESCRIPTION)
    huge = {"layers": {"x": {"n_features": 2**40, "pooling": "avg"}}}
    with pytest.raises(CodesFileError, match="cannot be written"):
        CodesFile.create(tmp_path / "codes.h5", ImageTable(IDS), huge)
    assert list(tmp_path.iterdir()) == []
