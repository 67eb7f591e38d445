"""`cnncodes extract`: images that fail, manifests, arrays, an interruption."""

from __future__ import annotations

import inspect
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image

from cnncodes import extract
from cnncodes.cli.main import main
from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.system.shipped import SAMPLE, shipped_path


def test_some_failed_images_exit_with_3_and_strict_with_1(there: Path, small_sample: Path) -> None:
    folder = there / "images"
    shutil.copytree(small_sample / "train", folder)
    (folder / "Bag" / "broken.png").write_text("no image")
    for words, code in (((), 3), (("--strict",), 1)):
        result = run("extract", folder, "-o", "new.h5", "--layer", "layer1", *words, code=code)
        assert "30 of 31 images, 1 failed" in result.stdout
        assert "failed: Bag/broken.png: " in result.stderr
    assert json.loads(run("info", "new.h5", "--json").stdout)["failures"].keys() == {"Bag/broken.png"}
    assert "1 images that could not be read" in run("fit", "new.h5", "--layer", "layer1", "-C", "1").stderr


def test_a_manifest_and_arrays_are_extracted(there: Path, small_sample: Path) -> None:
    paths = (
        sorted((small_sample / "train" / "Bag").iterdir())[:3]
        + sorted((small_sample / "train" / "Sandal").iterdir())[:3]
    )
    images = np.stack([np.array(Image.open(path)) for path in paths])
    labels = ["Bag"] * 3 + ["Sandal"] * 3
    np.savez(there / "arrays.npz", images=images, labels=labels)
    for i, path in enumerate(paths):
        shutil.copy(path, there / f"{i}.png")
    table = [f"{i}.png,{label},g{i // 2},{'test' if i % 3 == 2 else 'train'}" for i, label in enumerate(labels)]
    (there / "table.csv").write_text("\n".join(["path,label,group,split", *table]) + "\n")
    run("extract", "arrays.npz", "-o", "a.h5", "--layer", "layer1")
    run("extract", "table.csv", "-o", "t.h5", "--layer", "layer1")
    X, y = load_codes("a.h5", "layer1", return_X_y=True)
    np.testing.assert_array_equal(load_codes("t.h5", "layer1"), X)
    assert y.tolist() == labels
    with CodesFile.open("t.h5") as file:
        assert file.groups.tolist() == ["g0", "g0", "g1", "g1", "g2", "g2"]
        assert file.rows("test").tolist() == [2, 5]


def test_defaults_of_extract_are_those_of_the_library() -> None:
    """The numbers stand twice, as the command line starts without torch."""
    in_python = inspect.signature(extract).parameters
    for option in main.commands["extract"].params:
        if option.name in ("image_timeout", "max_pixels"):
            assert option.default == in_python[option.name].default


def test_a_manifest_may_leave_its_folder_if_allowed(there: Path, small_sample: Path) -> None:
    run("fit", "-C", "0.01")
    paths = sorted((small_sample / "test").rglob("*.png"))
    Path("away").mkdir()
    Path("away/images.csv").write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))
    assert "--allow-outside" in run("extract", "away/images.csv", "-o", "away.h5", code=1).stderr
    for words in (
        ["extract", "away/images.csv", "-o", "away.h5"],
        ["predict", "away/images.csv"],
        ["evaluate", "away/images.csv"],
    ):
        run(*words, "--allow-outside")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    "options",
    [
        ["--workers", "1"],
        # batches that take longer than workers are waited for: they are left in the middle of the network
        pytest.param(
            ["--workers", "2", "--batch-size", "64", "--precision", "fp32", "--image-size", "320"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_ctrl_c_says_how_to_go_on_and_keeps_what_is_done(tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "codes.h5"
    words = [sys.executable, "-m", "cnncodes", "extract", str(shipped_path(SAMPLE)), "-o", str(out), *options]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stderr=pipe, stdout=pipe, text=True, preexec_fn=_heed_ctrl_c)
    while process.poll() is None and not _some_rows_done(out):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    assert time.monotonic() - sent < 20  # two seconds on a quiet machine
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr.count("interrupted") == 1
    assert f"To continue: cnncodes extract {shipped_path(SAMPLE)} -o {out} {' '.join(options)}" in stderr
    with CodesFile.open(out) as file:
        assert 0 < file.counts["ok"] < 600
        assert len(file.verify()) == 0


def _heed_ctrl_c() -> None:
    """Undo what a shell does to its jobs in the background: they ignore SIGINT, and so do their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _some_rows_done(path: Path) -> bool:
    if not path.exists():
        return False
    with CodesFile.open(path) as file:
        return file.counts["ok"] > 0
