"""`cnncodes verify`: damaged rows, and rows computed again."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import run


def test_verify_names_damaged_rows(there: Path) -> None:
    import h5py

    assert "0 damaged" in run("verify").stdout
    with h5py.File("codes.h5", "r+") as h5:
        h5["codes/layer3"][7, 3] += 1
        name = h5["images/id"].asstr()[7]
    result = run("verify", code=1)
    assert f"damaged: {name}\n" in result.stdout


def test_verify_recomputes_a_sample_of_the_images(there: Path, small_sample: Path) -> None:
    found = json.loads(run("verify", "codes.h5", str(small_sample), "--sample", "5", "--json").stdout)
    assert (found["recomputed"], found["wrong"], found["changed"], found["good"]) == (5, [], [], True)
    assert (
        "5 computed again, largest relative error 0, 0 wrong"
        in run("verify", "codes.h5", str(small_sample), "--sample", "5").stdout
    )


def test_verify_says_that_labels_of_earlier_files_have_no_checksum() -> None:
    file = Path(__file__).parents[1] / "files" / "codes-version-1-thumbnails.h5"
    result = run("verify", str(file))
    assert "its ids, labels, groups and splits have no checksum" in result.stderr
    assert "13 of 13 rows are intact" in result.stdout
    assert json.loads(run("verify", str(file), "--json").stdout)["sealed"] is False
