"""Images with hostile names and their codes file, and a browser."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_parts import HOSTILE, ODD_NAME

from cnncodes import extract


@pytest.fixture(scope="session")
def hostile(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A manifest with a hostile class and file name, and its codes file."""
    folder = tmp_path_factory.mktemp("hostile")
    with (folder / "images.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"])
        for label, name in ((HOSTILE, "Bag"), ("Sandal", "Sandal"), ("Trouser", "Trouser")):
            for i, path in enumerate(sorted((small_sample / "train" / name).iterdir())):
                there = ODD_NAME if (i, name) == (0, "Bag") else f"{name}{i}.png"
                shutil.copy(path, folder / there)
                writer.writerow([there, label])
    extract(folder / "images.csv", folder / "codes.h5", layers=["layer2", "layer3"])
    return folder / "images.csv", folder / "codes.h5"


@pytest.fixture
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()
