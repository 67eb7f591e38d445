"""What a set of images knows of them, and parts of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from image_files import PNG, fill

from cnncodes.errors import DecodeError, LabelsError
from cnncodes.images.loading import ImageSet, load_images


def test_file_that_vanishes_after_the_scan(tmp_path):
    images = load_images(fill(tmp_path, "a/1.png", "a/2.png"))
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(DecodeError, match="no such file"):
        images.read_bytes(0)
    (tmp_path / "a" / "2.png").unlink()
    os.mkfifo(tmp_path / "a" / "2.png")
    with pytest.raises(DecodeError, match="pipe"):
        images.read_bytes(1)


def test_empty_set_of_another_maker():
    images = ImageSet(ids=["a"], sources=[None])
    assert (len(images), images.classes, images.failures) == (1, [], {})


def test_a_part_keeps_what_is_known_of_its_images(tmp_path):
    paths = [fill(tmp_path, "1.png") / "1.png", tmp_path / "2.png", tmp_path / "3.png"]
    images = ImageSet(
        ["1.png", "2.png", "3.png"],
        paths,
        labels=["cat", None, "dog"],
        splits=["train", "test", "train"],
        root=tmp_path,
        failures={"2.png": "no such file", "3.png": "no such file"},
        notes=["a note"],
    )
    part = images.take([2, 0])
    assert (part.ids, part.sources) == (["3.png", "1.png"], [paths[2], paths[0]])
    assert (part.labels, part.groups, part.splits) == (["dog", "cat"], None, ["train", "train"])
    assert (part.root, part.failures, part.notes) == (tmp_path, {"3.png": "no such file"}, ["a note"])
    assert part.read_bytes(1) == PNG
    assert part.row_of == {"3.png": 0, "1.png": 1}
    part.notes.append("another")
    assert (images.notes, len(images), images.classes) == (["a note"], 3, ["cat", "dog"])
    assert images.take([1]).labels is None
    assert len(images.take([])) == 0


def test_labels_of_another_number_are_refused():
    for name in ("labels", "groups", "splits"):
        with pytest.raises(LabelsError, match=f"the {name} of the images: 2 images but labels of shape"):
            ImageSet(["a", "b"], [None, None], **{name: ["x"]})


def test_a_file_for_which_memory_is_too_small_cannot_be_read(tmp_path, monkeypatch):
    images = load_images(fill(tmp_path, "a/1.png"))

    def too_large(_):
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", too_large)
    with pytest.raises(DecodeError, match="not enough memory"):
        images.read_bytes(0)
