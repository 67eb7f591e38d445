"""The rows of a codes file: their images, and which of them are done, are as they were recorded, or refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from plain_codes import CODES

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import CONSTANT
from cnncodes.errors import CodesFileError

DONE = np.array([0, 1, 2, 3, 4, 7, 8, 9, 10, 11])


@pytest.mark.parametrize("name", CONSTANT)
def test_a_column_that_was_changed_is_refused_by_name_and_the_codes_are_read(name: str, path: Path) -> None:
    with h5py.File(path, "r+") as h5:
        h5[f"images/{name}"][3] = 70 if name in ("size", "changed_ns") else b"x"
    with CodesFile.open(path) as file:
        with pytest.raises(CodesFileError, match=f"damaged: its {CONSTANT[name]} do not match their checksum"):
            _ = file.table
        assert file.damaged_columns() == [CONSTANT[name]]
        assert len(file.verify()) == 0
        np.testing.assert_array_equal(file.codes("layer1", DONE), CODES["layer1"][DONE])


def test_a_failure_counts_only_as_it_was_recorded(path: Path) -> None:
    with CodesFile.open(path) as file:
        assert file.counts == {"pending": 1, "ok": 10, "failed": 1}
    with h5py.File(path, "r+") as h5:
        h5["images/state"][2] = 2
    with CodesFile.open(path) as file:
        assert file.counts == {"pending": 2, "ok": 9, "failed": 1}
        assert file.verify().tolist() == [2]
    with h5py.File(path, "r+") as h5:
        h5["images/error"][5] = b"another reason"
        h5["images/error"][3] = b"a reason for a row with codes"
    with CodesFile.open(path) as file:
        assert file.counts == {"pending": 3, "ok": 9, "failed": 0}
        assert not file.errors.any()
        assert file.verify().tolist() == [2, 3, 5]
