"""Images that are put on servers, and how their codes are compared with those of a folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnncodes.codes.file import CodesFile

OPTIONS: dict[str, Any] = {"layers": "penultimate", "image_size": 32, "precision": "fp32", "thumbnails": False}


def save_images(root: Path, names: Sequence[str]) -> Path:
    """Write small images, each with other pixels."""
    random = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / name)
    return root


def same_codes(path: Path, other: Path) -> None:
    """Compare the codes and labels of the images of one file with those in another, whatever they are called there."""
    with CodesFile.open(path) as one, CodesFile.open(other) as two:
        rows = [one.sha256.tolist().index(digest) for digest in two.sha256.tolist()]
        np.testing.assert_array_equal(one.labels[rows], two.labels)
        np.testing.assert_array_equal(one.codes("penultimate")[rows], two.codes("penultimate"))


def wait_for_readers() -> None:
    """Wait until the threads of the run before read no more."""
    while any(thread.name.startswith("cnncodes-reader") for thread in threading.enumerate()):
        time.sleep(0.02)
