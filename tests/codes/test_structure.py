"""The structure of a codes file lies before its datasets, and its digest is compared without HDF5."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain_codes import PROVENANCE

from cnncodes.codes import layout
from cnncodes.codes.columns import Columns
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.structure import extents, refuse_damage, seal_structure
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError


def structure_end(content: bytes) -> int:
    return int.from_bytes(content[40:48], "little")


def test_the_block_holds_the_digest_of_all_that_is_no_data(path: Path) -> None:
    content = path.read_bytes()
    end = structure_end(content)
    assert content[:8] == b"cnncodes"
    assert content[8:40] == hashlib.sha256(content[40:end]).digest()
    assert content[512:520] == b"\x89HDF\r\n\x1a\n"
    with h5py.File(path) as h5:
        assert min(h5[name].id.get_offset() for name in ("description", "images/id", "codes/layer1")) == end
    rest = bytearray(content)
    with h5py.File(path) as h5:
        for offset, size in extents(h5).values():
            rest[offset : offset + size] = bytes(size)
    assert not any(rest[end:])
    for signature in (b"TREE", b"SNOD", b"HEAP"):
        assert 512 < content.rindex(signature) < end
    assert b"GCOL" not in content  # the heap of texts of variable length


@pytest.mark.parametrize(
    ("n_layers", "name_length"), [(1, 1), (3, 250), pytest.param(600, 100, marks=pytest.mark.slow)]
)
def test_structures_of_any_size_have_room_before_the_data(n_layers: int, name_length: int, tmp_path: Path) -> None:
    layers = {"l" * name_length + str(i): {"n_features": 3, "pooling": "grid2"} for i in range(n_layers)}
    provenance = Provenance.from_dict({"layers": layers, "notes": ["x" * 100_000]})  # attributes hold 64 kB at most
    labels = [f"class {i} é" for i in range(5000)]
    CodesWriter.create(tmp_path / "x.h5", ImageTable(labels, labels), provenance, thumbnails=True)
    with CodesFile.open(tmp_path / "x.h5") as file:
        assert file.provenance.to_json() == provenance.to_json()
        assert file.classes == sorted(labels)
        assert file.layers == list(layers)


def test_a_file_without_images_is_laid_out_and_read(tmp_path: Path) -> None:
    CodesWriter.create(tmp_path / "x.h5", ImageTable([]), PROVENANCE)
    with CodesFile.open(tmp_path / "x.h5") as file:
        assert (file.n, file.ids.tolist(), file.damaged_columns()) == (0, [], [])


def test_structure_among_the_data_is_refused_when_a_file_is_laid_out(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="earliest", userblock_size=512) as h5:
        content = layout.lay_out(h5, ImageTable(["a"] * 3000), PROVENANCE)
        places = extents(h5)
    with pytest.raises(CodesFileError, match="HDF5 put structure among the datasets"):
        seal_structure(path, places, content)


def test_a_flipped_bit_or_a_lost_sector_of_block_and_structure_is_found_without_hdf5(path: Path) -> None:
    content = path.read_bytes()
    end = structure_end(content)
    damages: list[bytearray] = []
    for at in range(0, end, 512):
        damages.append(bytearray(content))
        damages[-1][at : min(at + 512, end)] = bytes(min(512, end - at))
    for bit in [*range(0, 48 * 8, 3), *np.random.default_rng(0).integers(0, end * 8, 100).tolist()]:
        damages.append(bytearray(content))
        damages[-1][bit // 8] ^= 1 << bit % 8
    for changed in damages:
        path.write_bytes(changed)
        with contextlib.closing(Columns(path)) as columns:
            if changed == content:
                refuse_damage(columns)
                continue
            with pytest.raises((ValueError, OSError), match=r"structure has changed|neither HDF5|the file ends"):
                refuse_damage(columns)


def test_writing_rows_and_reading_with_h5py_leave_the_structure_as_it_is(path: Path) -> None:
    end = structure_end(before := path.read_bytes())
    with h5py.File(path, "r+") as h5:
        h5["codes/layer1"][6] = 1
        assert json.loads(h5["description"][0])["backbone"] == "tiny"
        labels = h5["images/label"]
        assert labels.attrs["sha256"].decode() == hashlib.sha256(labels[:].tobytes()).hexdigest()
    with CodesWriter(path) as file:
        file.fail(6, "broken", np.ones(32, np.uint8))
    assert path.read_bytes()[:end] == before[:end] != before


def test_the_digest_of_a_large_file_costs_no_more_than_that_of_a_small_one(tmp_path: Path) -> None:
    layers = {f"layer{i}": {"n_features": 1, "pooling": "avg"} for i in range(5)}
    path = tmp_path / "x.h5"
    CodesWriter.create(path, ImageTable([f"{i}" for i in range(50_000)]), Provenance.from_dict({"layers": layers}))
    assert structure_end(path.read_bytes()[:512]) < 32_768
    with contextlib.closing(Columns(path)) as columns:
        began = time.process_time()
        refuse_damage(columns)
        assert time.process_time() - began < 0.1
