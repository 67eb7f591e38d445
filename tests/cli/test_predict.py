"""`cnncodes predict`: what it writes, where it is unsure, and what failed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import failed, run

from cnncodes import ProbeModel


def test_predict_writes_json_and_files_and_records_failures(there: Path, small_sample: Path) -> None:
    run("fit", "-C", "0.01")
    new = there / "new"
    shutil.copytree(small_sample / "test" / "Sandal", new / "deep" / "er")
    (new / "broken.jpg").write_bytes(b"")
    result = run("predict", new, "--format", "json", code=3)
    rows = {row["path"]: row for row in json.loads(result.stdout)}
    unknown = dict.fromkeys(("label", "probability", "novelty", "guess"))
    assert rows["broken.jpg"] == {"path": "broken.jpg", **unknown, "status": "failed"}
    assert sum(row["label"] == "Sandal" for path, row in rows.items() if path.startswith("deep/er/")) >= 4
    assert "broken.jpg" in result.stderr
    run("predict", small_sample / "test" / "Sandal", "-o", "out.csv")
    assert len((there / "out.csv").read_text().splitlines()) == 6
    assert [path.name for path in there.iterdir() if "partial" in path.name] == []


def test_predict_leaves_the_label_empty_where_it_is_unsure(there: Path, small_sample: Path) -> None:
    run("fit", "-C", "0.01")
    sure = run("predict", small_sample / "test")
    assert "unsure" not in sure.stderr
    rows = list(csv.DictReader(io.StringIO(sure.stdout)))
    assert list(rows[0]) == ["path", "label", "probability", "novelty", "guess", "status"]
    assert all(row["label"] == row["guess"] and row["status"] == "labelled" for row in rows)
    assert all(0 <= float(row["novelty"]) < 1 for row in rows)
    least = sorted(float(row["probability"]) for row in rows)[4] + 1e-4  # above the fifth, as it is printed
    cautious = run("predict", small_sample / "test", "--min-confidence", least)
    for row, before in zip(csv.DictReader(io.StringIO(cautious.stdout)), rows, strict=True):
        unsure = float(before["probability"]) < least
        assert row == {**before, **({"label": "", "status": "unsure"} if unsure else {})}
    assert "unsure: 5 of 15 images" in cautious.stderr
    asked = run("predict", small_sample / "test", "--min-confidence", 1, "--format", "json")
    assert {(row["label"], row["status"]) for row in json.loads(asked.stdout)} == {(None, "unsure")}
    assert "unsure: 15 of 15 images" in asked.stderr
    assert "min-confidence" in run("predict", small_sample, "--min-confidence", 80, code=2).stderr


def test_predict_draws_where_it_looked(there: Path, small_sample: Path) -> None:
    run("fit", "-C", "0.01")
    new = there / "new"
    shutil.copytree(small_sample / "test" / "Sandal", new / "deep" / "er")
    (new / "broken.jpg").write_bytes(b"")
    result = run("predict", new, "--explain", "where", "-o", "labels.csv", code=3)
    drawn = {path.relative_to(there / "where").as_posix() for path in (there / "where").rglob("*.png")}
    assert drawn == {f"deep/er/{path.name}.png" for path in (new / "deep" / "er").iterdir()}
    assert "where: 5 pictures" in result.stderr
    (there / "where" / "deep" / "er" / next(iter(drawn)).split("/")[-1]).write_bytes(b"mine")
    assert "not a picture of an explanation" in run("predict", new, "--explain", "where", code=1).stderr
    inside = run("predict", new, "--explain", new / "where", code=1)
    assert "among the images" in inside.stderr
    assert not (new / "where").exists()


def test_pictures_that_would_take_the_place_of_files_are_refused_before_the_work(
    there: Path, small_sample: Path
) -> None:
    run("fit", "-C", "0.01")
    new = there / "new"
    shutil.copytree(small_sample / "test" / "Sandal", new)
    (there / "where").mkdir()
    last = there / "where" / f"{max(path.name for path in new.iterdir())}.png"
    last.write_bytes(b"mine")
    assert "not a picture of an explanation" in run("predict", new, "--explain", "where", code=1).stderr
    assert [last] == list((there / "where").iterdir())
    photo = min(new.iterdir())
    assert "among the images" in run("predict", photo, "--explain", new, code=1).stderr
    (there / "new.csv").write_text(f"path\nnew/{photo.name}\n")
    assert "among the images" in run("predict", "new.csv", "--explain", new, code=1).stderr
    assert len(list(new.iterdir())) == 5
    run("predict", photo, "--explain", "where")
    assert last.read_bytes() == b"mine"
    run("predict", new, "--explain", "where", "--force")
    assert last.read_bytes().startswith(b"\x89PNG")


def test_images_that_come_while_pictures_are_drawn_are_for_the_next_time(
    there: Path, small_sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("fit", "-C", "0.01")
    new = there / "new"
    shutil.copytree(small_sample / "test" / "Sandal", new)
    explain = ProbeModel.explain

    def explain_later(model: ProbeModel, images: Any, **options: Any) -> Any:
        shutil.copy(min(new.iterdir()), new / "late.png")
        return explain(model, images, **options)

    monkeypatch.setattr(ProbeModel, "explain", explain_later)
    rows = list(csv.DictReader(io.StringIO(run("predict", new, "--explain", "where").stdout)))
    assert len(rows) == len(list((there / "where").iterdir())) == 5


def test_predict_by_the_classes_of_the_network_itself(photos: Path) -> None:
    result = run("predict", photos / "china" / "0.png", "--model", "imagenet")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["label"], row["novelty"], row["status"]) == ("palace", "", "labelled")
    assert 0.6 < float(row["probability"]) < 0.8
    message = failed("predict", photos, "--model", "imagenet", "--weights", "IMAGENET1K_V3")
    assert "Did you mean 'IMAGENET1K_V2'" in message
