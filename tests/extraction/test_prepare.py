"""The codes that a file has go into the one that takes its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plain_codes import CODES, DIGESTS, IDS, PROVENANCE, N, write

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError, MismatchError
from cnncodes.extraction import prepare as module
from cnncodes.extraction.prepare import copy_rows, prepare, widen
from cnncodes.extraction.reuse import Reuse
from cnncodes.extraction.stamps import file_stamp
from cnncodes.images.image_set import ImageSet

DONE = [0, 1, 2, 4, 7]
HALF = {
    name: replace(layer, dtype="float16") if name == "layer1" else layer for name, layer in PROVENANCE.layers.items()
}
TABLE = ImageTable(IDS)
IMAGES = ImageSet(IDS, list(range(N)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Five rows are done, row 5 has failed; layer1 is kept in float16."""
    CodesWriter.create(tmp_path / "codes.h5", TABLE, replace(PROVENANCE, layers=HALF, dtype="auto"))
    with CodesWriter(tmp_path / "codes.h5") as file:
        write(file, DONE)
        file.fail(5, "it is broken", DIGESTS[5])
    return tmp_path / "codes.h5"


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_rows_are_copied_to_their_new_places(path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "COPY_ROWS", at_once)
    twins = {0: 7, 1: 3, 2: 0, 9: 4}  # row 3 of the old file is pending
    CodesWriter.create(path.with_name("new.h5"), TABLE, PROVENANCE)
    with CodesFile.open(path) as old, CodesWriter(path.with_name("new.h5")) as new:
        copy_rows(old, new, twins)
        assert new.rows(labelled=False).tolist() == [0, 2, 9]
        np.testing.assert_array_equal(new.codes("layer4"), CODES["penultimate"][[7, 0, 4]])
        np.testing.assert_array_equal(new.codes("layer1"), old.codes("layer1", np.array([7, 0, 4])))
        np.testing.assert_array_equal(new.sha256[[0, 2, 9]], DIGESTS[[7, 0, 4]])


@pytest.mark.parametrize("at_once", [1, 30, 10_000])  # bytes
def test_maps_are_copied_to_their_new_places(path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", at_once)
    maps = np.random.default_rng(0).random((N, 2, 1, 3)).astype(np.float16)
    mapped = replace(PROVENANCE, maps={"layer4": (2, 1, 3)})
    for name in ("old", "new"):
        CodesWriter.create(path.with_name(f"{name}.h5"), TABLE, mapped)
    with CodesWriter(path.with_name("old.h5")) as old, CodesWriter(path.with_name("new.h5")) as new:
        write(old, DONE)
        old.write(np.array(DONE[1:]), {"maps/layer4": maps[DONE[1:]]}, DIGESTS[DONE[1:]])
        copy_rows(old, new, {0: 7, 1: 3, 2: 0, 9: 4, 10: 2})  # row 3 is pending, and row 0 has no map
        assert np.flatnonzero(new.good().all(axis=1)).tolist() == [0, 9, 10]
        assert np.flatnonzero(new.good().any(axis=1)).tolist() == [0, 2, 9, 10]
        np.testing.assert_array_equal(new.maps("layer4", np.array([0, 9, 10]))[:], maps[[7, 4, 2]])


def test_a_file_is_widened_to_float32_with_its_codes(path: Path) -> None:
    assert widen(path)
    with CodesFile.open(path) as file:
        assert file.dtype == dict.fromkeys(PROVENANCE.layers, "float32")
        assert file.provenance == replace(PROVENANCE, dtype="auto").in_float32()
        assert file.rows(labelled=False).tolist() == DONE
        np.testing.assert_array_equal(file.codes("penultimate"), CODES["penultimate"][DONE])
        np.testing.assert_array_equal(file.codes("layer1"), CODES["layer1"][DONE].astype(np.float16))
    before = path.read_bytes()
    assert not widen(path)
    assert path.read_bytes() == before


def test_an_unchanged_file_stays_as_it_is(path: Path) -> None:
    before = path.read_bytes()
    with CodesFile.open(path) as file:
        provenance = file.provenance
    plan = Reuse(IMAGES, TABLE, unchanged=True, stamp=file_stamp(path))
    prepare(path, plan, provenance, provenance)
    assert path.read_bytes() == before
    with pytest.raises(MismatchError, match="backbone is 'tiny', asked 'huge'"):
        prepare(path, plan, replace(provenance, backbone="huge"), provenance)
    with pytest.raises(CodesFileError, match="another process has changed it in the meantime"):
        prepare(path, replace(plan, stamp=(0, 0)), provenance, provenance)
    assert path.read_bytes() == before


def test_a_layer_that_kept_rows_would_lack_is_refused(path: Path) -> None:
    with CodesFile.open(path) as file:
        provenance = file.provenance
    more = replace(provenance, layers={**provenance.layers, "layer2": provenance.layers["layer1"]})
    kept = replace(IMAGES, sources=[None, *range(1, N)])
    plan = Reuse(kept, TABLE, stamp=file_stamp(path))
    with pytest.raises(CodesFileError, match="1 of its rows are of other images, which would lack layer2"):
        prepare(path, plan, more, provenance)
