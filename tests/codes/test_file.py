"""The codes file: what is written is read, what is damaged is found, one writer at a time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cnncodes.codes.columns import Columns
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.load_codes import load_codes
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.writer import CodesWriter
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
PROVENANCE = Provenance.from_dict(DESCRIPTION)
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
    table = ImageTable(IDS, LABELS, splits=["train"] * 10 + ["test"] * 2, sizes=list(range(N)), changed=[7] * N)
    CodesWriter.create(path, table, PROVENANCE)
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
            IDS, LABELS, splits=["train"] * 10 + ["test"] * 2, sizes=list(range(N)), changed=[7] * N
        )


def test_a_notebook_shows_what_is_in_it_and_escapes_it(path: Path, tmp_path: Path) -> None:
    with CodesFile.open(path) as file:
        shown = file._repr_html_()
    assert "<th>images</th><td>12: 10 ok, 1 failed, 1 pending</td>" in shown
    assert "<th>classes</th><td>2: -tulip (1), rosé (11)</td>" in shown
    assert "<th>splits</th><td>test, train</td>" in shown
    assert "<th>layer layer1</th><td>3 features, avg, of a map 3×8×8</td>" in shown
    labels = [f"<script>{i}" for i in range(22)]
    CodesWriter.create(tmp_path / "many.h5", ImageTable(labels, labels), PROVENANCE)
    with CodesFile.open(tmp_path / "many.h5") as file:
        shown = file._repr_html_()
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") == 20
    assert "and 2 more" in shown


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
        CodesWriter.create(path, ImageTable(IDS, LABELS), PROVENANCE)
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
    CodesWriter.create(path, ImageTable(IDS, LABELS), PROVENANCE)
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
        script = f"from cnncodes.codes.writer import CodesWriter; CodesWriter({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "is writing to it" in done.stderr
        with CodesFile.open(path) as file:
            assert file.counts["ok"] == 10
    assert path.read_bytes() == before
    with CodesWriter(path) as file:
        assert file.n == N


def test_of_two_that_make_a_new_file_the_second_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "codes.h5"

    def another(_: CodesWriter) -> None:
        target.write_bytes(b"of another process")

    with pytest.raises(CodesFileError, match="is writing to it"):
        CodesWriter.create(target, ImageTable(IDS), PROVENANCE, fill=another)
    assert target.read_bytes() == b"of another process"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".codes.h5.{ended.pid}.partial").write_bytes(b"half")
    kept = tmp_path / ".codes.h5.1.partial"  # of a process that runs
    kept.write_bytes(b"half")
    CodesWriter.create(tmp_path / "codes.h5", ImageTable(IDS), PROVENANCE)
    assert sorted(tmp_path.iterdir()) == [kept, tmp_path / "codes.h5"]


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
        CodesWriter.create(tmp_path / "no" / "codes.h5", ImageTable(IDS), PROVENANCE)
    huge = {"layers": {"x": {"n_features": 2**40, "pooling": "avg"}}}
    with pytest.raises(CodesFileError, match="cannot be written"):
        CodesWriter.create(tmp_path / "codes.h5", ImageTable(IDS), Provenance.from_dict(huge))
    assert list(tmp_path.iterdir()) == []


def replaced(h5: h5py.File, name: str, make: Callable[[h5py.Group, str], object]) -> None:
    """Put something else where a dataset was."""
    parent, leaf = h5[name].parent, name.rpartition("/")[2]
    del h5[name]
    make(parent, leaf)


def described(h5: h5py.File, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description."""
    description = json.loads(h5.attrs["description"])
    h5.attrs["description"] = json.dumps(change(description) or description)


CODES_SHAPE = (N, 3)
LAYOUT = h5py.VirtualLayout(CODES_SHAPE, np.float32)
LAYOUT[:] = h5py.VirtualSource("secret.h5", "x", CODES_SHAPE)
HOSTILE: dict[str, Callable[[h5py.File], object]] = {
    "external link": lambda h5: replaced(
        h5, "codes/layer1", lambda g, leaf: g.__setitem__(leaf, h5py.ExternalLink("secret.h5", "x"))
    ),
    "external link to a group": lambda h5: replaced(
        h5, "codes", lambda g, leaf: g.__setitem__(leaf, h5py.ExternalLink("secret.h5", "/"))
    ),
    "soft link": lambda h5: replaced(
        h5, "images/label", lambda g, leaf: g.__setitem__(leaf, h5py.SoftLink("/images/id"))
    ),
    "external storage": lambda h5: replaced(
        h5,
        "codes/layer1",
        lambda g, leaf: g.create_dataset(leaf, CODES_SHAPE, np.float32, external=[("secret.bin", 0, 4 * 3 * N)]),
    ),
    "virtual storage": lambda h5: replaced(h5, "codes/layer1", lambda g, leaf: g.create_virtual_dataset(leaf, LAYOUT)),
    "filter": lambda h5: replaced(
        h5, "codes/layer1", lambda g, leaf: g.create_dataset(leaf, CODES_SHAPE, np.float32, compression="gzip")
    ),
    "chunks": lambda h5: replaced(
        h5, "codes/layer1", lambda g, leaf: g.create_dataset(leaf, CODES_SHAPE, np.float32, chunks=(2, 2))
    ),
    "never allocated": lambda h5: replaced(
        h5, "codes/layer1", lambda g, leaf: g.create_dataset(leaf, CODES_SHAPE, np.float32)
    ),
    "other type": lambda h5: replaced(
        h5, "codes/layer1", lambda g, leaf: g.create_dataset(leaf, data=np.zeros(CODES_SHAPE, np.int64))
    ),
    "other shape": lambda h5: replaced(
        h5, "images/crc32", lambda g, leaf: g.create_dataset(leaf, data=np.zeros((2, 2), np.uint32))
    ),
    "pointers": lambda h5: replaced(
        h5,
        "images/label",
        lambda g, leaf: g.create_dataset(leaf, data=["x"] * N, dtype=h5py.string_dtype()),
    ),
    "compound type": lambda h5: replaced(
        h5, "images/state", lambda g, leaf: g.create_dataset(leaf, data=np.zeros(N, [("a", "u1"), ("b", "u1")]))
    ),
    "a group for a dataset": lambda h5: replaced(h5, "images/state", lambda g, leaf: g.create_group(leaf)),
    "one dataset more": lambda h5: h5.create_dataset("codes/more", data=np.zeros(CODES_SHAPE, np.float32)),
    "description is a list": lambda h5: described(h5, lambda d: [d]),
    "description is no JSON": lambda h5: h5.attrs.__setitem__("description", "{"),
    "description is deep": lambda h5: h5.attrs.__setitem__("description", "[" * 30_000),
    "description is a number": lambda h5: h5.attrs.__setitem__("description", 3),
    "layers is a list": lambda h5: described(h5, lambda d: d.__setitem__("layers", ["layer1"])),
    "a layer is a number": lambda h5: described(h5, lambda d: d["layers"].__setitem__("layer1", 3)),
    "length is text": lambda h5: described(h5, lambda d: d["layers"]["layer1"].__setitem__("n_features", "3")),
    "length is negative": lambda h5: described(h5, lambda d: d["layers"]["layer1"].__setitem__("n_features", -3)),
    "links is a list": lambda h5: described(h5, lambda d: d.__setitem__("links", ["layer1"])),
    "a link to nothing": lambda h5: described(h5, lambda d: d["links"].__setitem__("layer1", "layer9")),
    "a link to itself": lambda h5: described(h5, lambda d: d["links"].__setitem__("layer1", "layer1")),
    "pooling is a number": lambda h5: described(h5, lambda d: d["layers"]["layer1"].__setitem__("pooling", 3)),
    "views are unknown": lambda h5: described(h5, lambda d: d.__setitem__("preprocessing", {"views": "11crop"})),
    "views are a list": lambda h5: described(h5, lambda d: d.__setitem__("preprocessing", {"views": ["flip"]})),
    "views that are not there": lambda h5: described(h5, lambda d: d.__setitem__("preprocessing", {"views": "flip"})),
    "views that are not said": lambda h5: replaced(
        h5, "codes/layer1", lambda g, leaf: g.create_dataset(leaf, data=np.zeros((N, 2, 3), np.float32))
    ),
    "classes is a number": lambda h5: h5.attrs.__setitem__("classes", "3"),
    "version is text": lambda h5: h5.attrs.__setitem__("format_version", "one"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.filterwarnings("ignore::UserWarning:h5py")
def test_hostile_files_are_refused_before_anything_is_read(path: Path, tmp_path: Path, kind: str) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["x"] = np.ones(CODES_SHAPE, np.float32)
    (tmp_path / "secret.bin").write_bytes(b"secret" * 100)
    with h5py.File(path, "r+") as h5:
        HOSTILE[kind](h5)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for opened in (CodesFile.open, CodesWriter):
        with pytest.raises(CodesFileError, match=r"not a codes file, or damaged"):
            opened(path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_file_that_was_cut_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for size in np.random.default_rng(0).integers(0, len(whole), 50):
        path.write_bytes(whole[:size])
        with pytest.raises(CodesFileError, match=r"not a codes file, or damaged"):
            CodesFile.open(path)


def test_a_file_that_became_shorter_is_named(tmp_path):
    path = tmp_path / "short.h5"
    path.write_bytes(bytes(8))
    columns = Columns(path)
    with pytest.raises(OSError, match="the file ends at byte 8") as caught:
        columns.read(4, 8)
    columns.close()
    assert caught.value.filename == str(path)
