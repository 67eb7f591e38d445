"""The shipped files are those that data/README.md names, and the sample can be made again."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import re
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from cnncodes.system.shipped import EMBEDDED_WEIGHTS, RUNTIME, RUNTIME_SCRIPT, SAMPLE, shipped_path

DATA = Path(__file__).resolve().parent.parent / "data"
SCRIPT = DATA / "make_fashion_mnist_sample.py"
ORIGINAL = Path("/usr/share/datasets/fashion-mnist")

needs_original = pytest.mark.skipif(not ORIGINAL.is_dir(), reason="needs Debian's package dataset-fashion-mnist")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fashion_mnist_sample", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # data/ is shipped as it is
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module


def documented_hash(name: str) -> str:
    found = re.search(rf"^\| `{re.escape(name)}/?` \|.*`([0-9a-f]{{64}})`", (DATA / "README.md").read_text(), re.M)
    assert found, f"data/README.md gives no SHA-256 of {name}"
    return found[1]


@pytest.mark.parametrize("name", [EMBEDDED_WEIGHTS, RUNTIME, RUNTIME_SCRIPT])
def test_files_have_the_documented_hash(name):
    assert hashlib.sha256(shipped_path(name).read_bytes()).hexdigest() == documented_hash(name)


def test_sample_has_the_documented_hash(script):
    assert script.tree_sha256(shipped_path(SAMPLE)) == documented_hash(SAMPLE)


def test_tree_hash_sees_a_changed_byte_and_a_renamed_file(script, tmp_path):
    for split in script.SPLITS:
        (tmp_path / split).mkdir()
    image = tmp_path / "train" / "00001.png"
    image.write_bytes(b"a")
    before = script.tree_sha256(tmp_path)
    image.write_bytes(b"b")
    changed = script.tree_sha256(tmp_path)
    image.rename(image.with_name("00002.png"))
    assert len({before, changed, script.tree_sha256(tmp_path)}) == 3


def test_sample_has_forty_train_and_twenty_test_images_a_class(script):
    folders = Counter(path.parent.relative_to(DATA / SAMPLE).as_posix() for path in (DATA / SAMPLE).rglob("*.png"))
    assert folders == {
        f"{split}/{name}": count for split, (_, count) in script.SPLITS.items() for name in script.CLASSES
    }


def test_png_decodes_to_its_pixels(script, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    (tmp_path / "image.png").write_bytes(script.png(pixels.tobytes()))
    with Image.open(tmp_path / "image.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_script_refuses_a_damaged_original(script, tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(struct.pack(">II", 0x801, 5) + bytes(4)))
    with pytest.raises(SystemExit, match="damaged"):
        script.read_idx(path, 0x801)


@needs_original
def test_script_makes_the_same_bytes_again(script, tmp_path):
    printed = subprocess.run(
        [sys.executable, SCRIPT, "--target", tmp_path], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert printed == script.tree_sha256(tmp_path) == documented_hash(SAMPLE)


@needs_original
def test_sample_images_are_those_of_the_original(script):
    for split, (prefix, _) in script.SPLITS.items():
        images = script.read_idx(ORIGINAL / f"{prefix}-images-idx3-ubyte.gz", 0x803)
        labels = script.read_idx(ORIGINAL / f"{prefix}-labels-idx1-ubyte.gz", 0x801)
        originals = np.frombuffer(images, np.uint8).reshape(-1, 28, 28)
        for path in (DATA / SAMPLE / split).rglob("*.png"):
            assert script.CLASSES[labels[int(path.stem)]] == path.parent.name
            with Image.open(path) as image:
                np.testing.assert_array_equal(np.asarray(image), originals[int(path.stem)])
