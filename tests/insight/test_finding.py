"""What all kinds of finding share: a row of the CSV file, and the images that are looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from digit_codes import LAYERS, X_DIGITS, write_codes

from cnncodes.codes.file import CodesFile
from cnncodes.insight.finding import FIELDS, Examined
from cnncodes.insight.outliers import Outlier
from cnncodes.insight.suspects import Suspect
from cnncodes.neighbours.duplicates import Duplicates
from cnncodes.probes.protocol import TrainingData

NONE = Duplicates(np.empty((0, 2), int), np.empty(0), np.empty(0, bool), [])


def test_rows_of_all_kinds_have_the_same_keys() -> None:
    row = Suspect("a.png", "rose", "train", "tulip", 0.9, 0.1).to_row()
    assert tuple(row) == FIELDS
    assert (row["kind"], row["id"], row["label"], row["suggested"]) == ("suspect label", "a.png", "rose", "tulip")
    assert row["other"] is row["reason"] is None
    assert tuple(Outlier("b.png", "rose", "train", 0.3).to_row()) == FIELDS


def test_positions_count_the_images_that_are_looked_at(tmp_path: Path) -> None:
    path = write_codes(tmp_path / "codes.h5", np.arange(4), ["a", "b", "c", "d"], ["train", "train", "", "test"])
    with CodesFile.open(path) as file:
        examined = Examined(TrainingData(file), np.array([1, 3]), NONE, ["layer1", "penultimate"], {})
        assert examined.of(1) == {"id": "0003.png", "label": "d", "split": "test"}
        expected = np.hstack([X_DIGITS[[1, 3]][:, part] for part in LAYERS.values()])
        np.testing.assert_array_equal(examined.codes, expected.astype(np.float32))
