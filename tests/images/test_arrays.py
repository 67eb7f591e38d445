"""Images in memory and in array files."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bad_images import picture
from image_files import PNG, fill
from PIL import Image

from cnncodes.errors import ImagesError
from cnncodes.images import arrays
from cnncodes.images.loading import load_images


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
    refused("text.npy", "text.npy: is no file of NumPy; save a uint8 array")
    (tmp_path / "text.npz").write_text("no array")
    refused("text.npz", "text.npz: is no file of NumPy; save a uint8 array")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1]))
    refused("pickle.npy", "holds Python objects, which are never loaded")
    (tmp_path / "empty.npy").write_bytes(b"")
    refused("empty.npy", "cannot be read")
    np.save(tmp_path / "cut.npy", pixels)
    os.truncate(tmp_path / "cut.npy", 200)
    refused("cut.npy", "cannot be read")
    np.savez(tmp_path / "cases.npz", images=pixels, IMAGES=pixels[::-1])
    refused("cases.npz", "holds IMAGES, images; expected one array 'images'")
    np.savez(tmp_path / "y.npz", images=pixels, y=[0, 1], labels=[1, 0])
    refused("y.npz", "holds images, labels, y; expected one array")
    np.savez(tmp_path / "latin.npz", images=pixels, labels=np.array([b"caf\xe9", b"caf\xe8"]))
    refused("latin.npz", r"the label of image 0 is no UTF-8 text, b'caf\\xe9'")
    np.savez(tmp_path / "surrogate.npz", images=pixels, labels=np.array(["a", "\ud800"]))
    refused("surrogate.npz", r"the label of image 1 is no UTF-8 text, '\\ud800'")
    beyond = np.array([97, 0x7FFFFFFF], np.uint32).view("U1")
    np.savez(tmp_path / "beyond.npz", images=pixels, labels=beyond)
    refused("beyond.npz", "the labels are no text: some of it is no character")
    np.savez(tmp_path / "long.npz", images=pixels, labels=np.array([b"\xff" * 5000, b"b"]))
    refused("long.npz", "the label of image 0 is no UTF-8 text, .{100}$")
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


def test_pandas_column(tmp_path):
    pandas = pytest.importorskip("pandas")
    fill(tmp_path, "1.png")
    frame = pandas.DataFrame({"path": [str(tmp_path / "1.png")], "label": ["cat"]})
    images = load_images(frame["path"], labels=frame["label"])
    assert (images.ids, images.labels) == ([f"{tmp_path}/1.png"], ["cat"])


def test_an_archive_that_memory_does_not_hold_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        shape = (1_000_000, 1000, 1000, 3)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        archive.writestr("images.npy", header.getvalue() + bytes(10**6))
    with pytest.raises(
        ImagesError, match=r"bomb\.npz: its arrays take 3,000\.0 GB, and .* GB of memory are free; save"
    ):
        load_images(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "small.npz", images=np.zeros((10, 8, 8), np.uint8), labels=["a", "b"] * 5)
    assert len(load_images(tmp_path / "small.npz")) == 10
    monkeypatch.setattr(arrays, "memory_left", lambda: 1279)  # 640 bytes of pixels, and 10 labels of 4 + 60
    with pytest.raises(ImagesError, match="of memory are free"):
        load_images(tmp_path / "small.npz")
    monkeypatch.setattr(arrays, "memory_left", lambda: 1280)
    assert load_images(tmp_path / "small.npz").labels == ["a", "b"] * 5


def test_empty_names_count_as_what_python_takes_for_them(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<U0", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "names.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    with pytest.raises(ImagesError, match=r"names\.npz: its arrays take 60,000\.0 GB, and .* GB of memory are free"):
        load_images(tmp_path / "names.npz")


@pytest.mark.parametrize("name", ["paths.npy", "paths.npz"])
def test_an_array_of_paths_obeys_the_rule_of_tables(tmp_path: Path, name: str) -> None:
    root = fill(tmp_path / "root", "1.png", "sub/2.png")
    fill(tmp_path, "out.png")

    def save(*names: str) -> Path:
        if name.endswith("y"):
            np.save(root / name, np.array(names))
        else:
            np.savez(root / name, images=np.array(names), labels=np.arange(len(names)))
        return root / name

    images = load_images(save("sub/2.png", str(root / "1.png")), labels=["b", "a"])
    assert (images.ids, images.labels, images.root) == (["sub/2.png", "1.png"], ["b", "a"], root)
    assert [images.read_bytes(row) for row in range(2)] == [PNG] * 2
    for outside in ("../out.png", str(tmp_path / "out.png"), f"file://{tmp_path}/out.png"):
        path = save("1.png", outside)
        with pytest.raises(ImagesError, match=r"entry 2: outside of the folder of the array: .*allow_outside=True"):
            load_images(path)
        assert load_images(path, allow_outside=True).ids == ["1.png", (tmp_path / "out.png").resolve().as_posix()]
    with pytest.raises(ImagesError, match=r"entries 1, 3: no such file: no\.png, gone\.png"):
        load_images(save("no.png", "1.png", "gone.png"))
    with pytest.raises(ImagesError, match=r"entry 2: the same file again: 1\.png \(as in entry 1\)"):
        load_images(save("1.png", "1.png"))
    np.save(root / "grid.npy", np.array([["1.png", "sub/2.png"]]))
    with pytest.raises(ImagesError, match=r"holds names of shape \(1, 2\); expected one path an image"):
        load_images(root / "grid.npy")
    np.save(root / "one.npy", np.array([["1.png"], ["sub/2.png"]]))
    assert load_images(root / "one.npy").ids == ["1.png", "sub/2.png"]
