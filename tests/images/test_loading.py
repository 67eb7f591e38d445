"""Which images are found, with which ids, labels, groups and splits, and what is said about the rest."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bad_images import encode, make_bad_images, picture
from PIL import Image

from cnncodes.errors import DecodeError, ImagesError
from cnncodes.images.loading import IMAGE_SUFFIXES, ImageSet, load_images

PNG = encode(picture(), "PNG")


def fill(root: Path, *names: str, data: bytes = PNG) -> Path:
    """Write files, and the folders above them; a name that ends in / is an empty folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return root


def table(root: Path, text: str | bytes, name: str = "images.csv") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Folders


def test_class_folders(tmp_path):
    images = load_images(fill(tmp_path, "b/2.png", "b/10.jpg", "a/x.PNG", "a/deep/er/y.tif", "a.b/z.gif"))
    assert images.ids == ["a.b/z.gif", "a/deep/er/y.tif", "a/x.PNG", "b/10.jpg", "b/2.png"]  # by code points
    assert images.ids == sorted(images.ids)
    assert images.labels == ["a.b", "a", "a", "b", "b"]
    assert images.classes == ["a", "a.b", "b"]
    assert images.sources == [tmp_path / name for name in images.ids]
    assert (images.groups, images.splits, images.root) == (None, None, tmp_path)
    assert (images.failures, images.notes, len(images)) == ({}, [], 5)
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
    assert images.notes == ["train is taken as a class, because bus is one"]


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
            ("a/notes.txt", "b/film.mp4", "b/raw.heic"),
            r"skipped, not images by their names: 1 \.heic, 1 \.mp4, 1 \.txt",
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


def test_file_that_vanishes_after_the_scan(tmp_path):
    images = load_images(fill(tmp_path, "a/1.png", "a/2.png"))
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(DecodeError, match="no such file"):
        images.read_bytes(0)
    (tmp_path / "a" / "2.png").unlink()
    os.mkfifo(tmp_path / "a" / "2.png")
    with pytest.raises(DecodeError, match="pipe"):
        images.read_bytes(1)


def test_huge_file_is_not_read(tmp_path):
    fill(tmp_path, "a/1.png", "a/huge.jpg")
    os.truncate(tmp_path / "a" / "huge.jpg", 2**31 + 1)  # sparse
    images = load_images(tmp_path)
    assert re.fullmatch(r"2,147,483,649 bytes, more than the limit of 2,147,483,648", images.failures["a/huge.jpg"])


# Names


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


def test_bad_images_are_all_found(tmp_path):
    expected = make_bad_images(tmp_path)
    images = load_images(tmp_path)
    assert set(images.ids) == {name for name, of_file in expected.items() if of_file.outcome != "skipped"}
    assert len(set(images.ids)) == len(images)
    assert all(label == name.split("/")[0] for name, label in zip(images.ids, images.labels, strict=True))
    assert {"names/same.png", "twins/same.png"} <= set(images.ids)
    for name, reason in images.failures.items():
        assert expected[name].word in reason


# Manifests


def test_manifest(tmp_path):
    fill(tmp_path, "a/1.png", "a/2.png", "b 3.png")
    text = '\ufeffPath, Label ,group,split\na/1.png,cat,g1,train\n"a/../a/2.png",dog,g1,Test\n\n'
    text += './b 3.png ,"big, cat",g2,valid\n'
    images = load_images(table(tmp_path, text))
    assert images.ids == ["a/1.png", "a/2.png", "b 3.png"]
    assert images.labels == ["cat", "dog", "big, cat"]
    assert images.groups == ["g1", "g1", "g2"]
    assert images.splits == ["train", "test", "val"]
    assert images.root == tmp_path
    assert [images.read_bytes(row) for row in range(3)] == [PNG] * 3
    assert (images.notes, images.failures) == ([], {})


def test_manifest_with_tabs(tmp_path):
    fill(tmp_path, "1,2.png", "3.png")
    images = load_images(table(tmp_path, "label\tpath\r\ncat\t1,2.png\r\ndog\t3.png\r\n", "images.TSV"))
    assert (images.ids, images.labels, images.groups, images.splits) == (
        ["1,2.png", "3.png"],
        ["cat", "dog"],
        None,
        None,
    )


def test_manifest_keeps_its_order_and_names_of_spaces(tmp_path):
    fill(tmp_path, " 2.png", "1.png")
    images = load_images(table(tmp_path, "path,label\n1.png,x\n 2.png,x\n"))
    assert images.ids == ["1.png", " 2.png"]


def test_manifest_without_labels(tmp_path):
    fill(tmp_path, "1.png")
    images = load_images(table(tmp_path, "path,label,group\n1.png,,\n"))
    assert (images.labels, images.groups) == (None, None)
    assert images.notes == ["the label column is empty: the images have no labels"]
    only_paths = table(tmp_path, "path,taken\n1.png,yesterday\n")
    images = load_images(only_paths, labelled=False)
    assert (images.ids, images.labels) == (["1.png"], None)
    assert images.notes == ["columns that are not used: taken"]
    with pytest.raises(ImagesError, match=r"no column 'label', only 'path', 'taken'"):
        load_images(only_paths)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\n1.png,a\n", r"no column 'path', only 'file', 'label'\. Expected path,label\[,group\]\[,split\]"),
        ("path,lable\n1.png,a\n", r"no column 'label', only 'path', 'lable'\. Did you mean 'lable'\?"),
        ("path;label\n1.png;a\n", r"no column 'path'.*separated by ';': save it with commas"),
        ("path,label,label\n1.png,a,b\n", "several columns are called 'label'"),
        ("", "it is empty; expected columns path,label"),
        ("\n\n", "it is empty"),
        ("path,label\n", "there are no rows below the header"),
        (
            "path,label\n1.png,a\nno.png,b\n",
            r"images\.csv, line 3: no such file: no\.png; paths are relative to the folder",
        ),
        (
            "path,label\n" + "".join(f"no{i}.png,b\n" for i in range(5)),
            r"lines 2, 3, 4 and 2 more: no such file: no0\.png, no1",
        ),
        ("path,label\nsub\\1.png,a\n", r"line 2: no such file: sub\\1\.png; .*write / and not"),
        ("path,label\n,a\n", "line 2: no such file"),
        ("path,label\nfolder,a\n", "line 2: no such file: folder"),
        ("path,label\ndangling.png,a\n", r"line 2: no such file: dangling\.png"),
        (
            "path,label\n../out.png,a\n",
            r"line 2: outside of the folder of the table: \.\./out\.png; move the table up, or allow",
        ),
        ("path,label\nlink.png,a\n", "line 2: outside of the folder of the table"),
        ("path,label\nlinked/out.png,a\n", "line 2: outside of the folder of the table"),
        ("path,label\n{outside}/out.png,a\n", "line 2: outside of the folder of the table"),
        (
            "path,label\n1.png,a\n\n./1.png,a\n",
            r"line 4: the same file again: \./1\.png \(as in line 2\); keep one row",
        ),
        ("path,label\n1.png,a\nfolder/../1.png,b\n", r"line 3: the same file again"),
        (
            "path,label,split\n1.png,a,train\n2.png,a,held\n",
            "line 3: no such split: held; write one of train, val, test",
        ),
        (
            "path,label,split\n1.png,a,train\n2.png,a,\n",
            "line 3: the split is empty; fill the split of every row, or of none",
        ),
        ("path,label\n1.png,a\n2.png, \n", "line 3: the label is empty; fill the label of every row, or of none"),
        ("path,label,group\n1.png,a,\n2.png,a,g\n", "line 2: the group is empty"),
        ("path,label\n1.png,a\n2.png\n", "line 3: the header has 2 columns, the row has: 1 cells; quote what"),
        ("path,label\n1.png,a,b,c\n", "line 2: the header has 2 columns, the row has: 4 cells"),
        ('path,label\n1.png,a\n"2.png,b\n', "line 3: not a table"),
        (b"path,label\n1.png,caf\xe9\n", "not UTF-8 text .*save it as CSV UTF-8"),
        ('path,label\n"new\nline.png",a\nno.png,b\n', r"line 4: no such file: no\.png"),
        ('path,label\n1.png,a\n"no\nway.png",b\n', r"line 3: no such file: no\\nway\.png"),
        ("path,label\n1\x00.png,a\n", "images.csv, line 2: "),
    ],
)
def test_manifest_with_faults_names_the_lines(tmp_path, text, words):
    root = fill(tmp_path / "root", "1.png", "2.png", "folder/", "new\nline.png")
    outside = fill(tmp_path / "root_twin", "out.png")  # begins like the folder of the table
    fill(tmp_path, "out.png")
    (root / "link.png").symlink_to(outside / "out.png")
    (root / "linked").symlink_to(outside)
    (root / "dangling.png").symlink_to("nowhere")
    text = text if isinstance(text, bytes) else text.replace("{outside}", str(outside))
    with pytest.raises(ImagesError, match=words) as error:
        load_images(table(root, text))
    assert str(root / "images.csv") in str(error.value)
    assert "\n" not in str(error.value)


def test_manifest_may_be_allowed_to_leave_its_folder(tmp_path):
    root = fill(tmp_path / "root", "1.png")
    fill(tmp_path, "out.png", "other/2.png")
    (root / "linked").symlink_to(tmp_path / "other")
    path = table(root, f"path,label\n1.png,a\n../out.png,b\nlinked/2.png,c\n{root}/3.png,d\n")
    fill(root, "3.png")
    images = load_images(path, allow_outside=True)
    assert images.ids == ["1.png", (tmp_path / "out.png").resolve().as_posix(), "linked/2.png", "3.png"]
    assert [images.read_bytes(row) for row in range(4)] == [PNG] * 4


def test_manifest_through_a_linked_folder_and_with_links_inside(tmp_path):
    root = fill(tmp_path / "root", "1.png")
    (root / "2.png").symlink_to("1.png")
    table(root, "path,label\n1.png,a\n2.png,b\n")
    (tmp_path / "link").symlink_to(root)
    assert load_images(tmp_path / "link" / "images.csv").ids == ["1.png", "2.png"]


def test_manifest_names_what_must_not_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    fill(tmp_path, "1.png")
    images = load_images(table(tmp_path, "path,label\npipe.png,a\n1.png,b\n"))
    assert list(images.failures) == ["pipe.png"]


# Arrays, lists, single files


def test_arrays():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)
    images = load_images(pixels, labels=[1, 0, 1])
    assert images.ids == ["000000", "000001", "000002"]
    assert images.labels == ["1", "0", "1"]
    assert all(np.array_equal(got, one) for got, one in zip(images.sources, pixels, strict=True))
    assert len(load_images(pixels[..., 0])) == 3
    assert load_images(pixels).labels is None
    with pytest.raises(TypeError, match="000000 is a ndarray, not a file"):
        images.read_bytes(0)


@pytest.mark.parametrize("name", ["x.npy", "x.NPY"])
def test_npy(tmp_path, name):
    pixels = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)
    with open(tmp_path / name, "wb") as stream:
        np.save(stream, pixels)
    images = load_images(tmp_path / name, labels=["a", "b"])
    assert images.labels == ["a", "b"]
    assert all(np.array_equal(got, one) for got, one in zip(images.sources, pixels, strict=True))


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("X", "y"), ("X", "labels")])
@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        ([3, 10], ["3", "10"]),
        (["cat", "dog"], ["cat", "dog"]),
        ([b"cat", b"dog"], ["cat", "dog"]),
        ([[1], [2]], ["1", "2"]),
    ],
)
def test_npz(tmp_path, keys, labels, texts):
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    np.savez(tmp_path / "data.npz", **{keys[0]: pixels, keys[1]: np.array(labels)})
    images = load_images(tmp_path / "data.npz")
    assert images.labels == texts
    assert all(np.array_equal(got, one) for got, one in zip(images.sources, pixels, strict=True))
    assert load_images(tmp_path / "data.npz", labels=["p", "q"]).labels == ["p", "q"]


def test_faulty_array_files(tmp_path):
    def refused(name, words):
        with pytest.raises(ImagesError, match=words) as error:
            load_images(tmp_path / name)
        assert name in str(error.value)

    pixels = np.zeros((2, 4, 5, 3), np.uint8)
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused("objects.npy", "holds Python objects, which are never loaded")
    np.savez(tmp_path / "objects.npz", x=pixels, y=np.array(["a", None], dtype=object))
    refused("objects.npz", "holds Python objects, which are never loaded")
    np.savez(tmp_path / "names.npz", x_train=pixels, y_train=[0, 1])
    refused("names.npz", r"holds x_train, y_train; expected one array 'images' \(or 'x'\)")
    np.savez(tmp_path / "twice.npz", x=pixels, images=pixels)
    refused("twice.npz", "holds images, x; expected one array")
    np.savez(tmp_path / "floats.npz", x=pixels, y=[0.5, 1.5])
    refused("floats.npz", "the label of image 0 is 0.5; expected integers or text")
    np.savez(tmp_path / "more.npz", x=pixels, y=[0, 1, 2])
    refused("more.npz", r"2 images but labels of shape \(3,\)")
    (tmp_path / "text.npy").write_text("no array")
    refused("text.npy", "cannot be read|never loaded")
    (tmp_path / "text.npz").write_text("no array")
    refused("text.npz", "cannot be read|never loaded")
    (tmp_path / "empty.npy").write_bytes(b"")
    refused("empty.npy", "cannot be read")
    np.save(tmp_path / "cut.npy", pixels)
    os.truncate(tmp_path / "cut.npy", 200)
    refused("cut.npy", "cannot be read")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused("other.npz", "holds readme.txt; expected one array")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4, 4, 3)), "of float64; expected uint8, from 0 to 255; multiply by 255"),
        (np.zeros((2, 4, 4, 3), np.int64), "of int64; expected uint8, from 0 to 255$"),
        (np.zeros((480, 640, 3), np.uint8), r"\(480, 640, 3\): if that is one RGB image, put it into a list"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"channels first; expected \(n, H, W, 3\): use transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"shape \(2, 4, 4, 4\); expected \(n, H, W, 3\) or \(n, H, W\)"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
        (np.zeros((2, 0, 4), np.uint8), r"shape \(2, 0, 4\)"),
        (np.zeros((0, 4, 4), np.uint8), "no images were given"),
        ([], "no images were given"),
        (
            [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3))],
            r"image 1 of the sequence is an array of float64 \(4, 4, 3\)",
        ),
        ([np.zeros((3, 4, 4), np.uint8)], r"image 0 .* expected uint8 \(H, W, 3\) or \(H, W\)"),
        ([3, 4], "image 0 of the sequence is a int; expected a path, a PIL image or a uint8 array"),
        (7, "images are given as a int; expected a folder"),
        (None, "images are given as a NoneType"),
    ],
)
def test_arrays_with_faults(array, words):
    with pytest.raises(ImagesError, match=words):
        load_images(array)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a"], r"2 images but labels of shape \(1,\); expected one label an image"),
        ([0.5, 1.0], "the label of image 0 is 0.5; expected integers or text"),
        (["a", ""], "the label of image 1 is empty; label all images, or none"),
        ([None, "a"], "the label of image 0 is empty"),
        ([["a", "b"], ["a", "b"]], r"labels of shape \(2, 2\)"),
    ],
)
def test_labels_with_faults(labels, words):
    with pytest.raises(ImagesError, match=words):
        load_images(np.zeros((2, 4, 4), np.uint8), labels=labels)


def test_lists_of_paths_images_and_arrays(tmp_path):
    fill(tmp_path, "1.png", "2.png")
    paths = [str(tmp_path / "2.png"), tmp_path / "1.png", str(tmp_path / "2.png"), "missing.png"]
    images = load_images(paths, labels=["b", "a", "b", "c"])
    assert images.ids == [f"{tmp_path}/2.png", f"{tmp_path}/1.png", f"{tmp_path}/2.png#2", "missing.png"]
    assert images.labels == ["b", "a", "b", "c"]
    assert images.failures == {"missing.png": "no such file"}
    assert images.read_bytes(2) == PNG
    assert load_images(np.array([str(tmp_path / "1.png")])).ids == [f"{tmp_path}/1.png"]
    assert load_images(iter([tmp_path / "1.png"])).ids == [f"{tmp_path}/1.png"]

    image = Image.fromarray(picture())
    mixed = load_images([tmp_path / "1.png", image, picture()])
    assert mixed.ids == ["000000", "000001", "000002"]
    assert mixed.sources[0] == tmp_path / "1.png"
    assert mixed.sources[1] is image
    assert load_images(image).sources == [image]
    assert load_images(mixed) is mixed


def test_repeated_names_stay_unique():
    ids = load_images(["a", "a#2", "a", "a", "a#2"]).ids
    assert ids == ["a", "a#2", "a#3", "a#4", "a#2#2"]


def test_pandas_column(tmp_path):
    pandas = pytest.importorskip("pandas")
    fill(tmp_path, "1.png")
    frame = pandas.DataFrame({"path": [str(tmp_path / "1.png")], "label": ["cat"]})
    images = load_images(frame["path"], labels=frame["label"])
    assert (images.ids, images.labels) == ([f"{tmp_path}/1.png"], ["cat"])


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


def test_every_suffix_is_small_and_has_its_dot():
    assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in IMAGE_SUFFIXES)
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"} <= IMAGE_SUFFIXES
    assert not {".eps", ".ps", ".ico", ".svg", ".pdf"} & IMAGE_SUFFIXES


def test_empty_set_of_another_maker():
    images = ImageSet(ids=["a"], sources=[None])
    assert (len(images), images.classes, images.failures) == (1, [], {})
