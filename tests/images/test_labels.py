"""What is a label, what is none, and what is refused: the same for files, arrays, Series and estimators."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cnncodes import CNNCodesClassifier, evaluate, extract, fit, load_codes
from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError, LabelsError
from cnncodes.images.labels import Labels, check_labels, remarks_on
from cnncodes.images.loading import ImageSet, load_images

MISSING = {
    "None": ["cat", None, "dog"],
    "blank": ["cat", " ", "dog"],
    "NaN in a Series": pd.Series(["cat", np.nan, "dog"]),
    "NaN in an object array": np.array(["cat", np.nan, "dog"], object),
    "a Series of integers": pd.Series([1, None, 2]),
    "a Series of nullable integers": pd.Series([1, None, 2], dtype="Int64"),
    "a Series of nullable text": pd.Series(["cat", pd.NA, "dog"], dtype="string"),
    "NA among objects": np.array(["cat", pd.NA, "dog"], object),
    "NaT among objects": np.array(["cat", pd.NaT, "dog"], object),
    "NaN in an array of its own": [1, np.array(np.nan), 2],
    "a float of numpy": [1, np.float32("nan"), 2],
    "numpy's NaT": ["cat", np.datetime64("NaT"), "dog"],
    "categories": pd.Series(["cat", None, "dog"], dtype="category"),
    "categories without a Series": pd.Categorical(["cat", None, "dog"]),
    "masked": np.ma.array([1, 7, 2], mask=[0, 1, 0]),
    "masked in a list": ["cat", np.ma.masked, "dog"],
    "bytes": [b"cat", b"", b"dog"],
    "a frame of one column": pd.DataFrame({"label": ["cat", None, "dog"]}),
}
GOOD = [
    ([1, 2, 1], ["1", "2", "1"]),
    ([1.0, 2.0, 1.0], ["1", "2", "1"]),
    ([1, 2.0, 1], ["1", "2", "1"]),
    (["1", "2", "1"], ["1", "2", "1"]),
    ([True, False, True], ["True", "False", "True"]),
    ([b"a", b"b", b"a"], ["a", "b", "a"]),
    ([np.int8(1), np.int64(2), 1], ["1", "2", "1"]),
    ([np.str_("a"), "b", "a"], ["a", "b", "a"]),
    (np.array([[1], [2], [1]], np.uint8), ["1", "2", "1"]),
    ([["a"], ["b"], ["a"]], ["a", "b", "a"]),
    (pd.Series(["a", "b", "a"], dtype="category"), ["a", "b", "a"]),
    (pd.Series([1, 2, 1], dtype="Int64"), ["1", "2", "1"]),
    (iter(["a", "b", "a"]), ["a", "b", "a"]),
]
WRONG = [
    ({"a", "b", "c"}, "given as a set, which has no order of images"),
    ({0: "a", 1: "b", 2: "c"}, "given as a dict, which has no order of images"),
    (["a", "b"], r"3 images but labels of shape \(2,\); expected one label an image"),
    (np.array([["a", "b"]] * 3), r"3 images but labels of shape \(3, 2\); expected one label an image"),
    ([["a", "b"]] * 3, r"labels of shape \(3, 2\)"),
    ([["a"], ["a", "b"], ["b"]], "some labels are lists, or lists of several lengths"),
    (["a", ["a", "b"], "b"], "some labels are lists, or lists of several lengths"),
    (["a", 1, "b"], r"labels are of several types, text \(image 0: 'a'\) and a number \(image 1: 1\)"),
    (np.array(["1", 1, 1.0], object), r"several types, text \(image 0: '1'\) and a number \(image 1: 1\)"),
    ([True, 1, 0], r"several types, bool \(image 0: True\) and a number \(image 1: 1\)"),
    ([b"a", "a", "b"], r"several types, bytes \(image 0: b'a'\) and text \(image 1: 'a'\)"),
    ([1.0, 0.5, 2.0], r"the label of image 1 is 0\.5; expected integers or text"),
    ([1.0, np.inf, 2.0], r"the label of image 1 is inf; expected integers or text"),
    (np.array(["2020-01-01"] * 3, "M8[D]"), r"labels of datetime64\[D\]; expected integers or text"),
    (["a", Path("b"), "a"], "the label of image 1 is a PosixPath; expected text or an integer"),
    ([1j, 1, 2], "the label of image 0 is a complex; expected text or an integer"),
    (7, "labels are given as a int; expected one label an image"),
    ("cat", r"labels of shape \(1,\)"),
]


@pytest.mark.parametrize("labels", MISSING.values(), ids=MISSING)
def test_a_missing_label_is_none_and_no_class(labels: Any) -> None:
    read = Labels.read(labels, 3, "x")
    texts = read.texts()
    assert read.missing == [1]
    assert texts in (["cat", "", "dog"], ["1", "", "2"])
    images = ImageSet(["a", "b", "c"], [None] * 3, labels=labels, groups=labels)
    assert images.labels == images.groups == texts
    assert images.classes == [texts[0], texts[2]]
    with pytest.raises(LabelsError, match=r"^x: the label of image 1 is empty; label all images, or none$"):
        read.refuse_missing("label all images, or none")
    with pytest.raises(ImagesError, match="the sequence: the label of image 1 is empty"):
        load_images(np.zeros((3, 4, 4), np.uint8), labels=labels)
    with pytest.raises(ValueError, match=r"^y: the label of image 1 is empty; leave out the images without a label$"):
        check_labels(labels, 3)


def test_many_missing_labels_are_counted_and_the_first_named() -> None:
    labels = ["a"] * 10 + [None] * 5
    with pytest.raises(LabelsError, match=r"5 of 15 labels are empty, those of the images 10, 11, 12 … \(counted fr"):
        check_labels(labels, 15)


@pytest.mark.parametrize("nothing", [[None, np.nan], pd.Series([np.nan, np.nan]), ["", " "], [pd.NA, pd.NaT]])
def test_where_all_are_missing_there_are_no_labels(nothing: Any) -> None:
    images = load_images(np.zeros((2, 4, 4), np.uint8), labels=nothing)
    assert images.labels is None
    assert images.notes == ["all labels are empty: the images have no labels"]


@pytest.mark.parametrize(("labels", "texts"), GOOD, ids=range(len(GOOD)))
def test_labels_are_text_whatever_they_come_as(labels: Any, texts: list[str]) -> None:
    read = Labels.read(labels, 3, "the images")
    assert (read.texts(), read.missing) == (texts, [])


@pytest.mark.parametrize(("labels", "words"), WRONG, ids=[words[:40] for _, words in WRONG])
def test_labels_that_name_no_classes_are_refused_in_one_line(labels: Any, words: str) -> None:
    for read in (lambda: Labels.read(labels, 3, "x"), lambda: check_labels(labels, 3)):
        with pytest.raises(LabelsError, match=words) as error:
            read()
        assert "\n" not in str(error.value)
    with pytest.raises(ImagesError, match=words):
        load_images(np.zeros((3, 4, 4), np.uint8), labels=labels)


def test_what_was_read_cannot_be_changed() -> None:
    source = ["a", "b"]
    labels = Labels.read(source, 2, "the images")
    source[0] = "c"
    assert labels.values == ("a", "b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        labels.values = ("c", "d")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("label", "words"), [(b"caf\xe9", "no UTF-8 text"), ("\udcff", "no UTF-8 text"), ("a\0", "has a zero byte")]
)
def test_text_that_a_codes_file_cannot_hold_is_refused(label: Any, words: str) -> None:
    with pytest.raises(LabelsError, match=f"the label of image 0 (is|has) .*{words.removeprefix('has ')}"):
        Labels.read([label, type(label)()], 2, "x").texts()


def test_a_class_may_be_called_na_and_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number}.png,{'EU' if number % 2 else 'NA'},#N/A\n" for number in range(6))
    (tmp_path / "images.csv").write_text("path,label,group\n" + rows)
    images = load_images(tmp_path / "images.csv")
    assert images.classes == ["EU", "NA"]
    assert [note[:30] for note in images.notes] == ["the class 'NA' (3 images) has ", "the group '#N/A' (6 images) ha"]
    assert len(load_images(images.sources, labels=["nan", "a"] * 3).notes) == 1  # of `astype(str)` in pandas
    assert remarks_on(["", "Nancy", "nano", "no"]) == []
    with caplog.at_level(logging.WARNING):
        CNNCodesClassifier(layer="layer1", C=0.1, cv=2).fit(images.sources, images.labels)
    assert sum("the class 'NA'" in record.message for record in caplog.records) == 1


def test_estimators_refuse_what_is_no_label_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnncodes.extraction.kept_network.build_network", lambda *_: pytest.fail("a network was built"))
    pixels = np.zeros((3, 8, 8), np.uint8)
    for labels, words in [*((y, "the label of image 1 is empty") for y in MISSING.values()), *WRONG]:
        for method in (CNNCodesClassifier().fit, CNNCodesClassifier().score):
            with pytest.raises(ValueError, match=words):
                method(pixels, labels)
    with pytest.raises(ValueError, match="y cannot be None"):
        CNNCodesClassifier().fit(pixels, None)


def test_estimators_keep_the_type_of_labels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 16, 16), dtype=np.uint8)
    for y, classes in (
        ([1, 2] * 4, [1, 2]),
        (pd.Series([1, 2] * 4, dtype="Int64"), [1.0, 2.0]),  # as scikit-learn reads them
        (pd.Series(["a", "b"] * 4, dtype="category"), ["a", "b"]),
        (np.array([1.0, 2.0] * 4), [1.0, 2.0]),
        ([True, False] * 4, [False, True]),
    ):
        fitted = CNNCodesClassifier(layer="layer1", C=0.1, cv=2).fit(pixels, y)
        assert fitted.classes_.tolist() == classes
        assert type(fitted.predict(pixels[:1]).tolist()[0]) is type(classes[0])
        assert 0 <= fitted.score(pixels, y) <= 1


def test_images_without_a_label_are_kept_but_neither_fitted_to_nor_scored(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (12, 16, 16, 3), dtype=np.uint8)
    pixels[::2] += 100
    labels = pd.Series(["light", "dark"] * 5 + [np.nan, None])
    images = ImageSet([str(i) for i in range(12)], list(pixels), labels=labels)
    extract(images, tmp_path / "codes.h5", layers=["layer1"])
    with CodesFile.open(tmp_path / "codes.h5") as file:
        assert (file.n, file.classes) == (12, ["dark", "light"])
        assert file.labels.tolist() == ["light", "dark"] * 5 + ["", ""]
    assert len(load_codes(tmp_path / "codes.h5", layer="layer1", return_X_y=True)[1]) == 10
    model = fit(tmp_path / "codes.h5", layers="layer1", C=1.0, cv=2)
    assert (model.scores["n"], model.classes) == (10, ["dark", "light"])
    other = ImageSet(images.ids, list(255 - pixels), labels=labels)
    result = evaluate(other, model)
    assert (len(result.y), result.classes) == (10, ["dark", "light"])
    assert "2 images without a label are left out" in result.notes
    assert other.notes == []


def test_labels_beside_an_image_set_are_refused() -> None:
    images = load_images(np.zeros((2, 4, 4), np.uint8), labels=["a", "b"])
    for read in (load_images, extract):
        with pytest.raises(ImagesError, match="labels are given beside an ImageSet"):
            read(images, labels=["c", "d"])
