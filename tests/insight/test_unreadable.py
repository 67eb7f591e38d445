"""Unreadable images of an audit: each with its label and the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from digit_codes import write_codes

from cnncodes.codes.file import CodesFile
from cnncodes.insight.finding import Examined
from cnncodes.insight.unreadable import Unreadable
from cnncodes.neighbours.duplicates import Duplicates
from cnncodes.probes.protocol import TrainingData


def test_each_image_that_failed_is_listed_with_the_reason(tmp_path: Path) -> None:
    path = write_codes(tmp_path / "codes.h5", np.arange(5), list("abcde"), failed=(1, 4))
    none = Duplicates(np.empty((0, 2), int), np.empty(0), np.empty(0, bool), [])
    with CodesFile.open(path) as file:
        found = Unreadable.look(Examined(TrainingData(file), file.rows(labelled=False), none, ["layer1"], {}))
    assert [(one.id, one.label, one.reason) for one in found] == [
        ("0001.png", "b", "it is broken"),
        ("0004.png", "e", "it is broken"),
    ]
    assert (found[0].to_row()["kind"], found[0].to_row()["reason"]) == ("unreadable", "it is broken")
