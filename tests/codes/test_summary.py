"""What a codes file says of itself, in JSON and in a notebook."""

from __future__ import annotations

import json
from pathlib import Path

from plain_codes import IDS, PROVENANCE

from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.writer import CodesWriter


def test_a_notebook_shows_what_is_in_it_and_escapes_it(path: Path, tmp_path: Path) -> None:
    with CodesFile.open(path) as file:
        shown = file._repr_html_()
    assert "<th>images</th><td>12: 10 ok, 1 failed, 1 pending</td>" in shown
    assert "<th>classes</th><td>2: -tulip (1), rosé (11)</td>" in shown
    assert "<th>splits</th><td>test, train</td>" in shown
    assert "<th>layer layer1</th><td>3 features, avg, of a map 3×8×8</td>" in shown
    labels = [f"<script>{i}" for i in range(22)]
    CodesWriter.create(tmp_path / "many.h5", ImageTable(labels, labels), PROVENANCE)
    with CodesFile.open(tmp_path / "many.h5") as file:
        shown = file._repr_html_()
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") == 20
    assert "and 2 more" in shown


def test_the_summary_says_what_is_in_it(path: Path) -> None:
    with CodesFile.open(path) as file:
        info = file.info()
        reason = str(file.errors[5])
    assert json.loads(json.dumps(info)) == info
    assert info == {
        "path": str(path),
        "bytes": path.stat().st_size,
        "n": 12,
        "complete": False,
        "pending": 1,
        "ok": 10,
        "failed": 1,
        "layers": {
            "layer4": "5 features, avg, of a map 5×2×2, the same as penultimate",
            "layer1": "3 features, avg, of a map 3×8×8",
            "penultimate": "5 features, avg",
        },
        "maps": {},
        "backbone": "tiny",
        "weights": "none",
        "thumbnails": False,
        "classes": {"-tulip": 1, "rosé": 11},
        "splits": ["test", "train"],
        "failures": {IDS[5]: reason},
    }
