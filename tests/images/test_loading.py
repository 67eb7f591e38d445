"""Each kind of source is taken by the reader that is made for it, and others are refused."""

from __future__ import annotations

import os

import pytest
from bad_images import make_bad_images
from image_files import fill

from cnncodes.errors import ImagesError
from cnncodes.images.loading import load_images


def test_bad_images_are_all_found(tmp_path):
    expected = make_bad_images(tmp_path)
    images = load_images(tmp_path)
    assert set(images.ids) == {name for name, of_file in expected.items() if of_file.outcome != "skipped"}
    assert len(set(images.ids)) == len(images)
    assert all(label == name.split("/")[0] for name, label in zip(images.ids, images.labels, strict=True))
    assert {"names/same.png", "twins/same.png"} <= set(images.ids)
    for name, reason in images.failures.items():
        assert expected[name].word in reason


def test_single_file(tmp_path):
    images = load_images(fill(tmp_path, "one.JPG") / "one.JPG")
    assert (images.ids, images.labels, images.root) == (["one.JPG"], None, tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe" in load_images(tmp_path / "pipe.jpg").failures["pipe.jpg"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "'nowhere': no such file or folder; expected a folder"),
        ("", "'': no such file or folder"),
        ("nul\0", "no such file or folder"),
        ("codes.h5", r"\.h5 files are not read; expected a folder"),
        ("plain", "a file without suffix is not read"),
    ],
)
def test_other_paths_are_refused(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(fill(tmp_path, "codes.h5", "plain"))
    with pytest.raises(ImagesError, match=words):
        load_images(name)


def test_labels_beside_a_folder_are_refused(tmp_path):
    with pytest.raises(ImagesError, match="labels are given beside a sequence or array"):
        load_images(fill(tmp_path, "a/1.png"), labels=["a"])
