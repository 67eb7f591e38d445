"""`cnncodes audit`: what it writes and shows is what Python gives."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from click.testing import CliRunner

from cnncodes import audit
from cnncodes.cli.main import main


def test_the_command_writes_what_python_gives(planted: tuple[Path, Path], tmp_path: Path) -> None:
    codes, images = map(str, planted)
    result = CliRunner().invoke(main, ["audit", codes, images, "--json", "-o", str(tmp_path / "audit.csv")])
    assert result.exit_code == 0, result.output
    expected = audit(codes, images)
    assert json.loads(result.stdout) == json.loads(json.dumps(expected.to_dict()))
    with (tmp_path / "audit.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["kind"], row["id"]) for row in rows] == [(row["kind"], row["id"]) for row in expected.findings()]
    shown = CliRunner().invoke(main, ["audit", codes, images, "--clf", "logreg"]).stdout
    assert "train/Trouser/bag.png" in shown
    assert "unreadable images: 1" in shown
    accuracy = audit(codes, images, clf="logreg").accuracy
    assert f"out-of-fold accuracy {100 * accuracy:.1f} % (logreg on penultimate)" in shown
    assert f"always the most frequent class: {100 * 16 / 47:.1f} %" in shown
