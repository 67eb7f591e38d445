"""Filling a codes file: any order gives the same bytes, one writer at a time, nothing is left of a failure."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain_codes import CODES, DIGESTS, IDS, LABELS, PROVENANCE, N, write

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.provenance import Provenance
from cnncodes.codes.writer import CodesWriter
from cnncodes.errors import CodesFileError


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
    (tmp_path / f".codes.h5.{'0' * 16}.partial").write_bytes(b"half")
    CodesWriter.create(tmp_path / "codes.h5", ImageTable(IDS), PROVENANCE)
    assert list(tmp_path.iterdir()) == [tmp_path / "codes.h5"]


def test_a_file_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CodesFileError, match="cannot be written"):
        CodesWriter.create(tmp_path / "no" / "codes.h5", ImageTable(IDS), PROVENANCE)
    huge = {"layers": {"x": {"n_features": 2**40, "pooling": "avg"}}}
    with pytest.raises(CodesFileError, match="cannot be written"):
        CodesWriter.create(tmp_path / "codes.h5", ImageTable(IDS), Provenance.from_dict(huge))
    assert list(tmp_path.iterdir()) == []
