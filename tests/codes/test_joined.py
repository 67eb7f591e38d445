"""Several codes files read as one: the same rows as in one file, each checked by its own; what differs is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from plain_codes import DESCRIPTION, PROVENANCE

from cnncodes.codes.file import CodesFile
from cnncodes.codes.joined import JoinedCodes
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.provenance_parts import ShardProvenance
from cnncodes.codes.thumbnails import pack
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, MismatchError

RANDOM = np.random.default_rng(1)
CODES = {"layer1": RANDOM.random((12, 3), np.float32), "penultimate": RANDOM.random((12, 5), np.float32)}
DIGESTS = RANDOM.integers(1, 256, (12, 32)).astype(np.uint8)
PICTURES = pack(RANDOM.integers(0, 256, (12, 64, 64, 3), np.uint8), np.full((12, 2), 80))
LABELS = ["rosé"] * 6 + ["tulip"] * 6
SPLITS = ["train", "test"] * 6
CUTS = 0, 5, 6, 12  # the rows of three files


def write(
    path: Path,
    first: int,
    stop: int,
    provenance: Provenance = PROVENANCE,
    *,
    thumbnails: bool = True,
    names: list[str] | None = None,
) -> Path:
    names = names or [f"long name {row}" if row > 5 else str(row) for row in range(first, stop)]
    table = ImageTable(names, LABELS[first:stop])
    table.splits = SPLITS[first:stop]
    CodesWriter.create(path, table, provenance, thumbnails=thumbnails)
    rows = np.arange(stop - first)
    with CodesWriter(path) as file:
        file.write(rows, {name: codes[first:stop] for name, codes in CODES.items()}, DIGESTS[first:stop])
        if thumbnails:
            file.write_thumbnails(rows, PICTURES[first:stop], DIGESTS[first:stop])
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{i}.h5", CUTS[i], CUTS[i + 1]) for i in range(3)]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write(tmp_path / "whole.h5", 0, 12)


def test_all_that_is_read_is_as_in_one_file(paths: list[Path], whole: Path) -> None:
    rows = np.array([11, 0, 5, 4, 6])
    with JoinedCodes(paths) as joined, CodesFile.open(whole) as file:
        assert (joined.n, joined.layers, joined.classes) == (file.n, file.layers, file.classes)
        assert (joined.counts, joined.n_missing, joined.top_layer) == (file.counts, file.n_missing, file.top_layer)
        assert joined.table == file.table
        assert (joined.complete, joined.has_thumbnails) == (True, True)
        for name in ("ids", "labels", "splits", "groups", "errors", "sha256", "state"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(file, name))
        np.testing.assert_array_equal(joined.rows("train"), file.rows("train"))
        for layers in ("penultimate", ["layer4", "layer1"]):
            np.testing.assert_array_equal(joined.codes(layers), file.codes(layers))
            np.testing.assert_array_equal(joined.codes(layers, rows), file.codes(layers, rows))
        np.testing.assert_array_equal(joined.thumbnails(rows), file.thumbnails(rows))
        np.testing.assert_array_equal(joined.good(), file.good())
        assert joined.codes("layer1", np.empty(0, int)).shape == (0, 3)


def test_failures_and_pending_rows_are_those_of_each_file(paths: list[Path]) -> None:
    with CodesWriter(paths[1]) as file:
        file.fail(0, "it is broken", DIGESTS[5])
    CodesWriter.create(paths[2], ImageTable(["late"], ["rosé"]), PROVENANCE)
    with JoinedCodes(paths) as joined:
        assert joined.counts == {"pending": 1, "ok": 5, "failed": 1}
        assert np.flatnonzero(joined.failed).tolist() == [5]
        assert joined.errors.tolist()[5] == "it is broken"
        assert joined.rows().tolist() == [0, 1, 2, 3, 4]
        assert not joined.has_thumbnails


def test_a_damaged_row_is_named_with_its_file(paths: list[Path]) -> None:
    with h5py.File(paths[2], "r+") as h5:
        h5["codes/penultimate"][2, 1] += 1
    with JoinedCodes(paths) as joined:
        assert joined.verify().tolist() == [8]
        with pytest.raises(CodesFileError, match=r"2\.h5: 1 row.* of 'penultimate' are .*'long name 8'"):
            joined.codes("penultimate")
        assert len(joined.codes("penultimate", np.array([7, 9, 0]))) == 3


def test_codes_in_two_types_are_read_as_each_file_has_them(tmp_path: Path, paths: list[Path]) -> None:
    half: dict[str, Any] = {**DESCRIPTION, "dtype": "auto"}
    half["layers"] = {name: layer | {"dtype": "float16"} for name, layer in DESCRIPTION["layers"].items()}
    full = {**half, "layers": {name: layer | {"dtype": "float32"} for name, layer in DESCRIPTION["layers"].items()}}
    write(paths[0], 0, 5, Provenance.from_dict(half))
    write(paths[1], 5, 6, Provenance.from_dict({**full, "dtype": "float32"}))
    with JoinedCodes(paths[:2]) as joined:
        assert joined.dtype["penultimate"] == "float32"
        expected = CODES["penultimate"][:6].copy()
        expected[:5] = expected[:5].astype(np.float16)
        np.testing.assert_array_equal(joined.codes("penultimate"), expected)


def test_parts_of_an_extraction_are_read_if_all_are_there(tmp_path: Path) -> None:
    parts = []
    for number in range(3):
        shard = ShardProvenance(part=number + 1, of=3, images="ab" * 32)
        of_part = PROVENANCE.with_shard(shard)
        parts.append(write(tmp_path / f"part-{number + 1}.h5", CUTS[number], CUTS[number + 1], of_part))
    with JoinedCodes([parts[2], parts[0], parts[1]]) as joined:
        assert joined.provenance == PROVENANCE
        assert joined.n == 12
    with pytest.raises(CodesFileError, match=r"part-1\.h5 is one of 3 parts; name 2 as well"):
        JoinedCodes([parts[0], parts[2]])
    with pytest.raises(MismatchError, match="shard"):
        JoinedCodes([parts[0], write(tmp_path / "other.h5", 5, 12)])


def test_what_does_not_belong_together_is_refused(tmp_path: Path, paths: list[Path]) -> None:
    with pytest.raises(CodesFileError, match=r"0\.h5 and .*whole\.h5 both have 5 images, the first is '0'"):
        JoinedCodes([paths[0], write(tmp_path / "whole.h5", 0, 12)])
    with pytest.raises(CodesFileError, match=r"both have 5 images"):
        JoinedCodes([paths[0], paths[1], paths[0]])
    other = Provenance.from_dict({**DESCRIPTION, "backbone": "large"})
    with pytest.raises(MismatchError, match=r"1\.h5 and .*0\.h5 were made differently.*backbone"):
        JoinedCodes([paths[0], write(paths[1], 5, 6, other)])
    with pytest.raises(CodesFileError, match="no codes files"):
        JoinedCodes([])
    with pytest.raises(CodesFileError, match=r"none\.h5: no such codes file"):
        JoinedCodes([paths[0], tmp_path / "none.h5"])


def test_other_images_may_have_the_same_names(tmp_path: Path, paths: list[Path]) -> None:
    with JoinedCodes([paths[0], write(tmp_path / "more.h5", 5, 10, names=["0", "1", "2", "3", "4"])]) as joined:
        assert joined.ids.tolist() == ["0", "1", "2", "3", "4"] * 2
        np.testing.assert_array_equal(joined.codes("layer1"), CODES["layer1"][:10])


def test_maps_are_read_from_one_file(paths: list[Path]) -> None:
    with JoinedCodes(paths) as joined, pytest.raises(CodesFileError, match=r"0\.h5, .*1\.h5, .*2\.h5: feature maps"):
        joined.maps("layer1")
