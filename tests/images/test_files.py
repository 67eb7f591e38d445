"""Names of image files as unique text, and files that are never opened."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from unicodedata import normalize

import pytest
from image_files import fill

from cnncodes.errors import DecodeError
from cnncodes.images.files import as_on_disk
from cnncodes.images.loading import IMAGE_SUFFIXES, load_images


def test_what_cannot_be_read_is_a_failure_and_is_never_opened(tmp_path):
    fill(tmp_path, "a/good.png")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    (tmp_path / "a" / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "a" / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "a" / "loop.jpg").symlink_to("loop.jpg")
    with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "a")
        server.bind("socket.jpg")
    images = load_images(tmp_path)
    assert images.labels == ["a"] * 6
    words = {
        "pipe": "pipe",
        "device": "device",
        "dangling": "does not exist",
        "loop": "back to itself",
        "socket": "socket",
    }
    assert set(images.failures) == {f"a/{name}.jpg" for name in words}
    for row, name in enumerate(images.ids):
        if name in images.failures:
            with pytest.raises(DecodeError, match=words[Path(name).stem]):
                images.read_bytes(row)


def test_huge_file_is_not_read(tmp_path):
    fill(tmp_path, "a/1.png", "a/huge.jpg")
    os.truncate(tmp_path / "a" / "huge.jpg", 2**31 + 1)  # sparse
    images = load_images(tmp_path)
    assert re.fullmatch(r"2,147,483,649 bytes, more than the limit of 2,147,483,648", images.failures["a/huge.jpg"])


def test_names_become_unique_ids_that_utf8_can_hold(tmp_path):
    names = {
        b"latin-\xe9.png": "latin-\\xe9.png",
        b"latin-\\xe9.png": "latin-\\\\xe9.png",
        b"latin-\\\\xe9.png": "latin-\\\\\\\\xe9.png",
        b"back\\slash.png": "back\\slash.png",
        b"back\\slash\xff.png": "back\\\\slash\\xff.png",
        b"new\nline.png": "new\nline.png",
        "tulip \N{TULIP}.png".encode(): "tulip \N{TULIP}.png",
        b"-rf.png": "-rf.png",
        b" .png": " .png",
        b"a#2.png": "a#2.png",
    }
    for folder in (b"class", b"class-\xff"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), folder))
        for name in names:
            with open(os.path.join(os.fsencode(tmp_path), folder, name), "wb") as stream:
                stream.write(name)
    images = load_images(tmp_path)
    found = {images.read_bytes(row): name for row, name in enumerate(images.ids) if images.labels[row] == "class"}
    assert found == {raw: f"class/{name}" for raw, name in names.items()}
    assert set(images.labels) == {"class", "class-\\xff"}
    assert len(set(images.ids)) == 2 * len(names)
    for row, text in enumerate(images.ids):
        assert images.read_bytes(row) in os.fsencode(images.sources[row])
        text.encode("utf-8")


def test_repeated_names_stay_unique():
    ids = load_images(["a", "a#2", "a", "a", "a#2"]).ids
    assert ids == ["a", "a#2", "a#3", "a#4", "a#2#2"]


def test_every_suffix_is_small_and_has_its_dot():
    assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in IMAGE_SUFFIXES)
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"} <= IMAGE_SUFFIXES
    assert not {".eps", ".ps", ".ico", ".svg", ".pdf"} & IMAGE_SUFFIXES


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_a_path_is_spelled_as_on_the_disk(tmp_path: Path) -> None:
    fill(tmp_path, f"{NFD}/1{NFD}.png", f"twice/{NFC}.png", f"twice/{NFD}.png")
    for name in (f"{NFC}/1{NFC}.png", f"{NFC}/1{NFD}.png", f"{NFD}/1{NFC}.png", f"{NFC}/1{NFC}.png/"):
        assert as_on_disk(f"{tmp_path}/{name}").rstrip("/") == f"{tmp_path}/{NFD}/1{NFD}.png"
    for name in (f"twice/{NFC}.png", f"twice/{NFD}.png", f"{NFC}/2.png", "gone.png", f"{NFC}/gone\u00e9.png"):
        path = as_on_disk(f"{tmp_path}/{name}")
        assert normalize("NFC", path) == f"{tmp_path}/{normalize('NFC', name)}"
    assert as_on_disk(f"{tmp_path}/twice/{NFD}.png") == f"{tmp_path}/twice/{NFD}.png"
