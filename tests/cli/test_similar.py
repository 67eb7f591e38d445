"""`cnncodes similar`: the nearest images, the image itself first."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
from command_line import run

from cnncodes import extract, similar


def test_the_command_prints_what_python_gives(there: Path, small_sample: Path) -> None:
    query = sorted((small_sample / "test" / "Bag").iterdir())[0]
    printed = json.loads(run("similar", query, "-k", 3, "--json").stdout)
    neighbours = similar(query, "codes.h5", k=3)
    assert printed["layer"] == "penultimate"
    assert [one["path"] for one in printed["neighbours"]] == [one.path for one in neighbours]
    assert neighbours[0].path == f"test/Bag/{query.name}"
    table = run("similar", query, "-k", 3).stdout.splitlines()
    assert table[0].split() == ["similarity", "label", "path"]
    assert len(table) == 4


def test_a_page_has_the_small_pictures_of_the_file_or_needs_the_images(there: Path, small_sample: Path) -> None:
    query = sorted((small_sample / "test" / "Bag").iterdir())[0]
    run("similar", query, "-k", 3, "--html", "page.html")
    assert (there / "page.html").read_text(encoding="utf-8").count("data:image/webp") == 2
    extract(small_sample, "codes.h5", thumbnails=False)
    assert "--html needs --images" in run("similar", "photo.jpg", "--html", "page.html", code=2).stderr


def test_json_names_the_query_without_what_is_secret_in_its_url(there: Path, small_sample: Path) -> None:
    query = sorted((small_sample / "test" / "Bag").iterdir())[0]
    fsspec.filesystem("memory").pipe("/me:pw@host/bag.png", query.read_bytes())
    printed = run("similar", "memory://me:pw@host/bag.png", "-k", 1, "--json").stdout
    assert "pw" not in printed
    assert json.loads(printed)["query"] == "memory://host/bag.png"
