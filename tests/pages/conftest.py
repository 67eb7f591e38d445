"""Images with hostile names and their codes file, and a browser."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_parts import HOSTILE, ODD_NAME
from tuned_models import staged_images, tuned_by_hand

from cnncodes import CodesFile, ProbeModel, extract, fit
from cnncodes.models.answered import Answered

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # a picture, and leave to see it


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *CAMERA])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ProbeModel]:
    """Codes with maps, and a fine-tuned model of them, which keeps answers to its training images but one."""
    path = tmp_path_factory.mktemp("tuned") / "codes.h5"
    extract(staged_images(), path, backbone="staged", precision="fp32", maps="layer2")
    model = tuned_by_hand(fit(path, C=1.0, cv=3))
    with CodesFile.open(path) as file:
        digests = file.sha256[np.r_[0:5, 6:36]]
    return path, replace(model, answered=Answered.of(digests, np.arange(35) % 3, np.linspace(0.4, 0.9, 35)))
