"""Shared by the tests of the runtime: crops of photographs, and the precision that this machine chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photo_crops import sklearn_photo


@pytest.fixture(scope="module", autouse=True)
def auto_precision() -> None:
    """``auto`` is what this machine makes of it."""


@pytest.fixture(scope="module", autouse=True)
def shipped_network_is_tried_once() -> None:
    """Each network is tried anew."""


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty crops of two photographs, as JPEG files of many sizes."""
    folder, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    paths = []
    for i in range(20):
        photo = sklearn_photo(["china.jpg", "flower.jpg"][i % 2])
        width, height = rng.integers(200, 420, 2).tolist()
        left, top = int(rng.integers(0, photo.width - width)), int(rng.integers(0, photo.height - height + 1))
        paths.append(folder / f"{i}.jpg")
        photo.crop((left, top, left + width, top + height)).save(paths[-1], quality=90)
    return paths
