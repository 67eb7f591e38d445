"""Near-duplicates of an audit: which classes and splits a pair is of, and which pairs come first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from digit_codes import write_codes

from cnncodes.codes.file import CodesFile
from cnncodes.insight.duplicate_pairs import DuplicatePair
from cnncodes.insight.finding import Examined
from cnncodes.neighbours.duplicates import Duplicates
from cnncodes.probes.protocol import TrainingData


def test_pairs_across_classes_come_before_those_across_splits(tmp_path: Path) -> None:
    splits = ["train", "train", "train", "test", "train", "train"]
    path = write_codes(tmp_path / "codes.h5", np.arange(6), ["a", "a", "b", "a", "a", "a"], splits)
    pairs = np.array([[0, 1], [0, 3], [1, 2], [4, 5]])
    duplicates = Duplicates(pairs, np.array([1.0, 0.97, 0.95, 0.99]), np.array([True, False, False, False]), [])
    with CodesFile.open(path) as file:
        found = DuplicatePair.look(Examined(TrainingData(file), np.arange(6), duplicates, ["penultimate"], {}))
    assert [(pair.id, pair.other) for pair in found] == [
        ("0001.png", "0002.png"),
        ("0000.png", "0003.png"),
        ("0000.png", "0001.png"),
        ("0004.png", "0005.png"),
    ]
    assert [pair.across_classes for pair in found] == [True, False, False, False]
    assert [pair.across_splits for pair in found] == [False, True, False, False]
    assert [pair.name for pair in found] == ["near duplicate", "near duplicate", "exact duplicate", "near duplicate"]
    assert [pair.badness for pair in found] == [0.95, 0.97, 1.0, 0.99]
