"""`cnncodes fit`: what it shows, and labels that it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

from command_line import failed, run


def test_labels_that_do_not_allow_a_fit_are_refused(there: Path, small_sample: Path) -> None:
    one, single, flat = there / "one", there / "single", there / "flat"
    shutil.copytree(small_sample / "train" / "Bag", one / "Bag")
    shutil.copytree(small_sample / "train" / "Bag", single / "Bag")
    (single / "Sandal").mkdir()
    shutil.copy(next((small_sample / "train" / "Sandal").iterdir()), single / "Sandal")
    shutil.copytree(small_sample / "train" / "Bag", flat)
    for folder in (one, single, flat):
        run("extract", folder, "-o", f"{folder.name}.h5", "--layer", "layer1")
    assert "at least two" in failed("fit", "one.h5", "--layer", "layer1")
    assert "'Sandal'" in failed("fit", "single.h5", "--layer", "layer1")
    assert "no labels" in failed("fit", "flat.h5", "--layer", "layer1")
