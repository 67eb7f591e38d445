"""The codes file that most tests of codes/ look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from plain_codes import DIGESTS, IDS, LABELS, PROVENANCE, N, write

from cnncodes.codes.layout import ImageTable
from cnncodes.codes.writer import CodesWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Rows 0-4 and 7-11 are done, 5 failed, 6 is pending."""
    path = tmp_path / "codes.h5"
    table = ImageTable(IDS, LABELS, splits=["train"] * 10 + ["test"] * 2, sizes=list(range(N)), changed=[7] * N)
    CodesWriter.create(path, table, PROVENANCE)
    with CodesWriter(path) as file:
        write(file, [0, 1, 2, 3, 4])
        write(file, [7, 8, 9, 10, 11])
        file.fail(5, "broken\nJPEG " + "é" * 200, DIGESTS[5])
    return path
