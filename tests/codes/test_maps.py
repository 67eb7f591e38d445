"""Feature maps of a codes file: read by rows, compared once, and no way in for hostile files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain_codes import CODES, DIGESTS, IDS, PROVENANCE, N, write

from cnncodes.codes import maps as module
from cnncodes.codes.checksums import Checksums
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.maps import Maps
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError

SHAPES = {"layer4": (5, 2, 2), "blocks.3": (7, 4)}
ROWS = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
VALUES = {
    name: np.random.default_rng(i).random((N, *shape)).astype(np.float16)
    for i, (name, shape) in enumerate(SHAPES.items())
}


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    """Rows 0-4 and 7-11 are done, 5 failed, 6 is pending."""
    path = tmp_path / "maps.h5"
    CodesWriter.create(path, ImageTable(IDS), replace(PROVENANCE, maps=SHAPES))
    with CodesWriter(path) as file:
        for rows in (ROWS[:5], ROWS[5:]):
            maps = {f"maps/{name}": values[rows] for name, values in VALUES.items()}
            file.write(np.array(rows), {name: codes[rows] for name, codes in CODES.items()} | maps, DIGESTS[rows])
        file.fail(5, "broken", DIGESTS[5])
    return path


def test_maps_are_read_as_they_were_written(mapped: Path) -> None:
    with CodesFile.open(mapped) as file:
        assert file.map_layers == ["layer4", "blocks.3"]
        assert file.layers == ["layer4", "layer1", "penultimate"]
        assert file.stored_keys == ["layer1", "penultimate", "maps/layer4", "maps/blocks.3"]
        assert not len(file.verify())
        for name, values in VALUES.items():
            maps = file.maps(name)
            assert (maps.shape, maps.dtype, len(maps)) == ((10, *SHAPES[name]), np.float16, 10)
            assert maps.row_bytes == values[0].nbytes
            assert maps.rows.tolist() == ROWS
            for index in (
                slice(2, 7),
                slice(None, None, 3),
                np.array([9, 0, 0, 5]),
                [1],
                np.arange(10) % 2 == 0,
                [],
                6,
            ):
                np.testing.assert_array_equal(maps[index], values[ROWS][index])
            np.testing.assert_array_equal(np.asarray(maps, np.float32), values[ROWS])
            np.testing.assert_array_equal(file.maps(name, np.array([8, 2]))[:], values[[8, 2]])
            np.testing.assert_array_equal(maps[[3, 1], 1], values[ROWS][[3, 1], 1])
            np.testing.assert_array_equal(maps[[3, 1], [0, 1]], values[ROWS][[3, 1], [0, 1]])


def test_what_is_read_is_the_callers_own(mapped: Path) -> None:
    with CodesFile.open(mapped) as file:
        maps = file.maps("layer4")
        for index in (3, slice(0, 5), [4, 5]):
            maps[index][...] = 0
        np.testing.assert_array_equal(maps[:], VALUES["layer4"][ROWS])


def test_plain_h5py_reads_maps(mapped: Path) -> None:
    with h5py.File(mapped) as h5:
        np.testing.assert_array_equal(h5["maps/layer4"][:][ROWS], VALUES["layer4"][ROWS])


def test_a_row_is_compared_when_it_is_first_read_and_then_no_more(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[list[int]] = []
    match = Checksums.match

    def noted(self: Checksums, column: int, rows: np.ndarray, *rest: object, **more: object) -> np.ndarray:
        compared.append(rows.tolist())
        return match(self, column, rows, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Checksums, "match", noted)
    with CodesFile.open(mapped) as file:
        maps = file.maps("layer4")
        compared.clear()
        assert not compared
        maps[[6, 1, 0]]
        assert compared == [[0, 1], [8]]
        maps[[1, 6, 2]]
        assert compared[2:] == [[2]]
        maps.check()
        assert compared[3:] == [[3, 4], [7], [9, 10, 11]]
        monkeypatch.setattr(module, "CHUNK_BYTES", 1)  # a row at a time
        fresh = file.maps("layer4")
        compared.clear()
        fresh.check()
        assert compared == [[row] for row in ROWS]
    np.testing.assert_array_equal(maps[:], VALUES["layer4"][ROWS])  # checked, so the open file is not needed


def test_rows_without_maps_are_refused(mapped: Path) -> None:
    with CodesFile.open(mapped) as file:
        for row in (5, 6):
            maps = file.maps("layer4", np.array([0, row]))
            np.testing.assert_array_equal(maps[0], VALUES["layer4"][0])
            with pytest.raises(
                CodesFileError, match=r"1 row\(s\) of 'maps/layer4' are pending or damaged, the first is"
            ):
                maps[1]
            with pytest.raises(CodesFileError, match="pending or damaged"):
                maps.check()


def test_layers_without_maps_are_named(mapped: Path, path: Path) -> None:
    with (
        CodesFile.open(mapped) as file,
        pytest.raises(CodesFileError, match=r"'layer1'. It holds those of layer4, bl.*extract\(…, maps=\['layer1'\]"),
    ):
        file.maps("layer1")
    with CodesFile.open(path) as file, pytest.raises(CodesFileError, match=r"no maps of 'layer4'\. It holds none"):
        file.maps("layer4")
    with CodesFile.open(mapped) as file, pytest.raises(CodesFileError, match="no layer 'maps/layer4'"):
        file.codes("maps/layer4")


def test_codes_are_finished_while_maps_are_added(mapped: Path) -> None:
    with CodesWriter(mapped) as file:
        file._columns["images/crc32"][2:4] = file._columns["images/crc32"][2:4] * np.array([1, 1, 0, 1], np.uint32)
    with CodesFile.open(mapped) as file:
        assert (file.finished_layers, file.n_missing) == (file.layers, 1)
        assert file.counts == {"pending": 3, "ok": 8, "failed": 1}
        assert len(file.codes("layer1")) == 10
        assert len(file.maps("blocks.3")[:]) == 10
    with CodesWriter(mapped) as file:
        rows, keys = file.todo()
        assert (rows.tolist(), keys) == ([2, 3, 6], ["layer1", "penultimate", "maps/layer4", "maps/blocks.3"])


def test_a_file_without_maps_has_the_bytes_that_it_had(path: Path, tmp_path: Path) -> None:
    CodesWriter.create(tmp_path / "again.h5", ImageTable(IDS), replace(PROVENANCE, maps={}))
    with CodesWriter(tmp_path / "again.h5") as file:
        write(file, ROWS)
    with h5py.File(tmp_path / "again.h5") as h5:
        assert set(h5) >= {"codes", "images"}
        assert "maps" not in h5
    with CodesFile.open(path) as file:
        assert "maps" not in file.provenance.to_dict()


def replaced(**options: object) -> Callable[[h5py.File], None]:
    def forge(h5: h5py.File) -> None:
        del h5["maps/layer4"]
        dataset = h5.create_dataset("maps/layer4", **options)
        if "external" not in options:
            dataset[...] = 1  # or it would have no place in the file

    return forge


def linked(link: object) -> Callable[[h5py.File], None]:
    def forge(h5: h5py.File) -> None:
        name = "maps/layer4" if link else "maps"
        del h5[name]
        h5[name] = link or np.ones(3, np.float16)

    return forge


HOSTILE: dict[str, Callable[[h5py.File], None]] = {
    "another shape": replaced(shape=(N, 5, 2, 3), dtype="<f2"),
    "fewer rows": replaced(shape=(N - 1, 5, 2, 2), dtype="<f2"),
    "other numbers": replaced(shape=(N, 5, 2, 2), dtype="<f4"),
    "the other byte order": replaced(shape=(N, 5, 2, 2), dtype=">f2"),
    "chunks": replaced(shape=(N, 5, 2, 2), dtype="<f2", chunks=(1, 5, 2, 2)),
    "compression": replaced(shape=(N, 5, 2, 2), dtype="<f2", compression="gzip"),
    "an external file": replaced(shape=(N, 5, 2, 2), dtype="<f2", external=[("secret.bin", 0, 480)]),
    "a soft link": linked(h5py.SoftLink("/maps/blocks.3")),
    "an external link": linked(h5py.ExternalLink("secret.h5", "x")),
    "one map too many": lambda h5: h5.create_dataset("maps/layer9", (N,), "<f2"),
    "one map too few": lambda h5: h5.__delitem__("maps/layer4"),
    "no maps": lambda h5: h5.__delitem__("maps"),
    "a dataset for the group": linked(None),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_maps_are_refused_before_anything_is_read(mapped: Path, tmp_path: Path, kind: str) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["x"] = np.ones((N, 5, 2, 2), np.float16)
    (tmp_path / "secret.bin").write_bytes(b"secret" * 100)
    with h5py.File(mapped, "r+") as h5:
        HOSTILE[kind](h5)
    with pytest.raises(CodesFileError, match="not a codes file, or damaged"):
        CodesFile.open(mapped)


def test_maps_of_no_rows_are_empty() -> None:
    maps = Maps(np.empty((0, 5, 2, 2), np.float16), np.empty(0, np.int64), lambda rows, values: None)
    maps.check()
    assert maps[:].shape == (0, 5, 2, 2)


def test_many_maps_have_room_in_the_structure(tmp_path: Path) -> None:
    many = {f"{'x' * 60}.{i}": (2, 3, 3) for i in range(200)}
    path = (
        CodesWriter.create(tmp_path / "many.h5", ImageTable(IDS), replace(PROVENANCE, maps=many))
        or tmp_path / "many.h5"
    )
    with CodesFile.open(path) as file:
        assert file.map_layers == list(many)
