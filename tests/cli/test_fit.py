"""`cnncodes fit`: what it shows, and labels that it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import failed, run
from digit_codes import names, write_codes


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


def test_several_codes_files_are_one_training_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rows in {"a.h5": np.arange(80), "b.h5": np.arange(80, 140)}.items():
        write_codes(Path(name), rows, names(rows))
    assert json.loads(run("fit", "a.h5", "b.h5", "-C", "0.01", "--json").stdout)["n"] == 140
    assert "is what the command reads" in failed("fit", "a.h5", "b.h5", "-o", "b.h5")
    assert "a.h5 and a.h5 both have 80 images" in failed("fit", "a.h5", "a.h5")
