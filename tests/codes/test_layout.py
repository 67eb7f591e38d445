"""The layout of a codes file: plain HDF5 for others, and a gate against what is damaged or hostile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from plain_codes import CODES, DESCRIPTION, N, put_header, reseal

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError


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
    reseal(path)
    with pytest.raises(CodesFileError, match="version 99 is newer"):
        CodesFile.open(path)


def replaced(h5: h5py.File, name: str, make: Callable[[h5py.Group, str], object]) -> None:
    """Put something else where a dataset was."""
    parent, leaf = h5[name].parent, name.rpartition("/")[2]
    del h5[name]
    make(parent, leaf)


def described(h5: h5py.File, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description."""
    description = json.loads(h5["description"][0])
    put_header(h5, "description", json.dumps(change(description) or description))


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
    "one name for all images": lambda h5: replaced(h5, "images/id", lambda g, leaf: g.__setitem__(leaf, b"x")),
    "a table of names": lambda h5: replaced(h5, "images/id", lambda g, leaf: g.__setitem__(leaf, [[b"x"]] * N)),
    "no names": lambda h5: replaced(h5, "images/id", lambda g, leaf: g.__setitem__(leaf, h5py.Empty("S1"))),
    "a dataset for a group": lambda h5: replaced(h5, "codes", lambda g, leaf: g.__setitem__(leaf, 1)),
    "a group for a dataset": lambda h5: replaced(h5, "images/state", lambda g, leaf: g.create_group(leaf)),
    "one dataset more": lambda h5: h5.create_dataset("codes/more", data=np.zeros(CODES_SHAPE, np.float32)),
    "description is a list": lambda h5: described(h5, lambda d: [d]),
    "description is no JSON": lambda h5: put_header(h5, "description", "{"),
    "description is deep": lambda h5: put_header(h5, "description", "[" * 30_000),
    "description is a number": lambda h5: put_header(h5, "description", [3]),
    "description is missing": lambda h5: h5.__delitem__("description"),
    "description with another digest": lambda h5: h5["description"].attrs.__setitem__("sha256", np.bytes_("0" * 64)),
    "labels without a digest": lambda h5: h5["images/label"].attrs.__delitem__("sha256"),
    "a digest is a number": lambda h5: h5["images/label"].attrs.__setitem__("sha256", 3),
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
    "classes is a number": lambda h5: put_header(h5, "classes", "3"),
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
    with pytest.raises(CodesFileError, match="structure has changed"):
        CodesFile.open(path)
    reseal(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for opened in (CodesFile.open, CodesWriter):
        with pytest.raises(CodesFileError, match=r"not a codes file, or damaged") as refusal:
            opened(path)
        assert "structure has changed" not in str(refusal.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_file_that_was_cut_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for size in np.random.default_rng(0).integers(0, len(whole), 50):
        path.write_bytes(whole[:size])
        with pytest.raises(CodesFileError, match=r"not a codes file, or damaged"):
            CodesFile.open(path)


def test_the_digest_of_a_table_is_of_names_labels_groups_and_splits() -> None:
    table = ImageTable(["é"], ["a"], sizes=[3], changed=[7])
    assert table.digest() == hashlib.sha256('[["é"],["a"],null,null]'.encode()).hexdigest()
    assert table.digest() == ImageTable(["é"], ["a"]).digest()
    assert table.digest() != ImageTable(["é"], ["b"]).digest()
