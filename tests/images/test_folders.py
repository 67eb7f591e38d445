"""Which images of a folder are found, how they are labelled, and what is said about the rest."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from image_files import PNG, fill

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images import formats
from cnncodes.images.loading import load_images


def test_class_folders(tmp_path):
    images = load_images(fill(tmp_path, "b/2.png", "b/10.jpg", "a/x.PNG", "a/deep/er/y.tif", "a.b/z.gif"))
    assert images.ids == ["a.b/z.gif", "a/deep/er/y.tif", "a/x.PNG", "b/10.jpg", "b/2.png"]  # by code points
    assert images.ids == sorted(images.ids)
    assert images.labels == ["a.b", "a", "a", "b", "b"]
    assert images.classes == ["a", "a.b", "b"]
    assert images.sources == [tmp_path / name for name in images.ids]
    assert (images.groups, images.splits, images.root) == (None, None, tmp_path)
    assert (images.failures, len(images)) == ({}, 5)
    assert images.notes == ["folders in class folders are not told apart: a/deep"]
    assert images.read_bytes(0) == PNG


def test_ids_do_not_depend_on_how_the_folder_is_named(tmp_path, monkeypatch):
    fill(tmp_path / "photos", "a/1.png", "b/1.png")
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "photos/", "./photos", tmp_path / "photos", f"{tmp_path}/photos/../photos"):
        assert load_images(name).ids == ["a/1.png", "b/1.png"]
    monkeypatch.chdir("photos")
    assert load_images(".").ids == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "test"), ["test", "train"]),
        (("Train", "VAL"), ["train", "val"]),
        (("training", "validation", "testing"), ["test", "train", "val"]),
        (("train", "valid", "test"), ["test", "train", "val"]),
        (("test",), ["test"]),
    ],
)
def test_split_folders_in_any_case_of_letters(tmp_path, folders, splits):
    for folder in folders:
        fill(tmp_path, f"{folder}/cat/1.png", f"{folder}/dog/in/1.png")
    images = load_images(tmp_path)
    assert sorted(set(images.splits)) == splits
    assert images.classes == ["cat", "dog"]
    for name, split, label in zip(images.ids, images.splits, images.labels, strict=True):
        assert name.lower().startswith(split)
        assert name.split("/")[1] == label


def test_class_that_is_only_in_test_is_noted(tmp_path):
    images = load_images(fill(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dgo/1.png"))
    assert images.notes == ["classes without images in train: dgo"]


def test_one_split_name_among_classes_is_a_class(tmp_path):
    images = load_images(fill(tmp_path, "train/1.png", "bus/1.png"))
    assert images.classes == ["bus", "train"]
    assert images.splits is None
    assert images.notes == ["train is taken as a class, like bus beside it"]


def test_flat_folder_has_no_labels_and_says_so(tmp_path):
    images = load_images(fill(tmp_path, "2.png", "1.png", "readme.md"))
    assert images.ids == ["1.png", "2.png"]
    assert images.labels is None
    assert images.classes == []
    assert "there are no class folders: the images have no labels" in images.notes


def test_without_labels_every_folder_is_taken_as_it_is(tmp_path):
    fill(tmp_path, "1.png", "train/2.png", "x/y/3.png", "other/4.png")
    images = load_images(tmp_path, labelled=False)
    assert images.ids == ["1.png", "other/4.png", "train/2.png", "x/y/3.png"]
    assert (images.labels, images.splits, images.notes) == (None, None, [])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            (),
            r"there are no images in it; expected a folder with one folder of images a class.*train/ and test/.*\.csv",
        ),
        (("cat/", "dog/"), r"no images in it \(folders without images: cat, dog\)"),
        (
            ("a/notes.txt", "b/film.mp4", "b/raw.cr2"),
            r"skipped, not images by their names: 1 \.cr2, 1 \.mp4, 1 \.txt",
        ),
        (("a/.hidden.jpg",), "hidden image files skipped: 1"),
        (("cat/1.png", "2.png", "3.png"), r"2 images lie beside the folders \(2\.png, 3\.png\).*move these images"),
        (
            ("train/1.png", "test/2.png"),
            r"test/2\.png lies in a split, but in no class folder; expected e\.g\. test/CLASS/2\.png",
        ),
        (("train/cat/1.png", "train/2.png", "test/cat/1.png"), r"train/2\.png lies in a split"),
        (
            ("train/cat/1.png", "test/cat/1.png", "extra/cat/1.png"),
            "train look like splits, but extra lies beside them",
        ),
    ],
)
def test_unclear_folders_are_refused(tmp_path, names, words):
    with pytest.raises(ImagesError, match=words) as error:
        load_images(fill(tmp_path, *names))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_was_left_out_is_noted(tmp_path):
    fill(tmp_path, "cat/1.png", "empty/", "nested/empty/deep/", "cat/also/", "cat/a.txt", "cat/b.txt", "cat/Thumbs.db")
    fill(tmp_path, "cat/.DS_Store", "cat/desktop.ini", "cat/._1.png", ".cache/2.png", "__MACOSX/cat/1.png")
    images = load_images(tmp_path)
    assert images.ids == ["cat/1.png"]
    assert images.notes == [
        "folders without images: cat/also, empty, nested",
        "folders skipped, hidden or of a system: .cache, __MACOSX",
        "files skipped, not images by their names: 2 .txt",
        "hidden image files skipped: 1",
    ]


def test_links_are_followed_once_and_real_folders_win(tmp_path):
    fill(tmp_path, "zebra/1.png", "zebra/2.png")
    outside = fill(tmp_path.with_name(tmp_path.name + "_outside"), "3.png")
    (tmp_path / "ant").symlink_to("zebra")
    (tmp_path / "bee").symlink_to(outside)
    (tmp_path / "cow").symlink_to(outside)
    (tmp_path / "zebra" / "self").symlink_to(".")
    (tmp_path / "zebra" / "up").symlink_to("..")
    (tmp_path / "zebra" / "3.png").symlink_to("1.png")
    images = load_images(tmp_path)
    assert images.ids == ["bee/3.png", "zebra/1.png", "zebra/2.png", "zebra/3.png"]
    assert images.notes == ["links to a folder that is read already, not followed: ant, cow, zebra/self and 1 more"]


def test_folders_that_link_to_each_other_end(tmp_path):
    names = [f"f{i}" for i in range(12)]
    fill(tmp_path, *(f"{name}/1.png" for name in names))
    for name in names:
        for other in names:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    started = time.perf_counter()
    assert len(load_images(tmp_path)) == 12
    assert time.perf_counter() - started < 5


def test_deep_folders_do_not_exhaust_the_stack(tmp_path):
    deep = tmp_path / "class" / Path(*["d"] * 300)
    deep.mkdir(parents=True)
    fill(deep, "1.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        images = load_images(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert images.ids == ["class/" + "d/" * 300 + "1.png"]


def test_without_permission(tmp_path):
    fill(tmp_path, "cat/1.png", "cat/forbidden.png", "cat/locked/2.png", "dog/3.png", "train/4.png")
    closed = [tmp_path / name for name in ("cat/forbidden.png", "cat/locked", "dog")]
    for path in closed:
        path.chmod(0)
    if os.access(closed[0], os.R_OK):
        pytest.skip("root may read everything")
    try:
        images = load_images(tmp_path)
        with pytest.raises(ImagesError, match="cannot be listed: no permission"):
            load_images(tmp_path / "dog")
        with pytest.raises(DecodeError, match="no permission"):
            images.read_bytes(images.ids.index("cat/forbidden.png"))
    finally:
        for path in closed:
            path.chmod(0o700)
    assert dict(zip(images.ids, images.labels, strict=True)) == {
        "cat/1.png": "cat",
        "cat/forbidden.png": "cat",
        "cat/locked": "cat",
        "dog": "dog",
        "train/4.png": "train",
    }
    assert "no permission to read it" in images.failures["cat/forbidden.png"]
    assert "its images are missing" in images.failures["dog"]
    assert sum("cannot be listed" in note for note in images.notes) == 2


def test_unlistable_folder_is_a_failure_and_a_note(tmp_path, monkeypatch):
    fill(tmp_path, "cat/1.png", "cat/locked/2.png", "dog/3.png")
    listed = os.scandir

    def refuse(path):
        if str(path).endswith(("locked", "dog")):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    images = load_images(tmp_path)
    assert (images.ids, images.labels) == (["cat/1.png", "cat/locked", "dog"], ["cat", "cat", "dog"])
    for name in ("cat/locked", "dog"):
        reason = "the folder cannot be listed, its images are missing: no permission to read it"
        assert images.failures[name] == reason
        assert f"{name}: {reason}" in images.notes
    with pytest.raises(ImagesError, match="the folder cannot be listed: no permission"):
        load_images(tmp_path / "dog")


@pytest.mark.parametrize("library", ["no_such_library", "json"])
def test_heic_photographs_are_counted_and_say_how_to_have_them_read(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "HEIC_LIBRARY", library)
    fill(tmp_path, "a/1.png", "a/2.HEIC", "b/3.heif", "b/4.png", "b/5.txt")
    images = load_images(tmp_path)
    if library == "json":  # a library that is there
        assert images.ids == ["a/1.png", "a/2.HEIC", "b/3.heif", "b/4.png"]
        return
    assert images.ids == ["a/1.png", "b/4.png"]
    advice = "pip install 'cnncodes[heic]' to have them read, or convert them to JPEG"
    assert images.notes == [
        f"HEIC photographs skipped: 2; {advice}",
        "files skipped, not images by their names: 1 .txt",
    ]
