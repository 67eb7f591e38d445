"""What folders mean: classes, splits, wrappers, masks; and what is said of those that mean nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from image_files import fill

from cnncodes.images.layouts import masks_in
from cnncodes.images.loading import load_images

OTHERWISE = "; call a folder otherwise if it is a class"


def mvtec(name: str) -> list[str]:
    """Return the files of a class as MVTec AD has them."""
    folders = ("train/good/0.png", "train/good/1.png", "test/good/0.png", "test/crack/0.png")
    return [f"{name}/{file}" for file in (*folders, "ground_truth/crack/0_mask.png", "readme.txt")]


@pytest.mark.parametrize(
    ("names", "counts", "notes"),
    [
        (
            mvtec("bottle") + mvtec("cable"),
            {("bottle", "train"): 2, ("bottle", "test"): 2, ("cable", "train"): 2, ("cable", "test"): 2},
            [
                "masks left out: 2, in bottle/ground_truth, cable/ground_truth" + OTHERWISE,
                "split folders lie in the class folders: bottle/test, bottle/train, cable/test and 1 more",
                "folders in class folders are not told apart: "
                "bottle/test/crack, bottle/test/good, bottle/train/good and 3 more",
            ],
        ),
        (
            mvtec("bottle"),
            {("good", "train"): 2, ("good", "test"): 1, ("crack", "test"): 1},
            [
                "masks left out: 1, in bottle/ground_truth" + OTHERWISE,
                "bottle is taken as a wrapper around the folders test, train",
                "classes without images in train: crack",
            ],
        ),
        (
            [name.partition("/")[2] for name in mvtec("bottle")],
            {("good", "train"): 2, ("good", "test"): 1, ("crack", "test"): 1},
            ["masks left out: 1, in ground_truth" + OTHERWISE, "classes without images in train: crack"],
        ),
        (
            ["cat/train/1.png", "cat/TEST/2.png", "dog/Train/1.png", "dog/test_set/2.png"],
            {(name, split): 1 for name in ("cat", "dog") for split in ("train", "test")},
            ["split folders lie in the class folders: cat/TEST, cat/train, dog/Train and 1 more"],
        ),
        (
            ["cat/train/1.png", "cat/test/2.png", "dog/1.png"],
            {("cat", None): 2, ("dog", None): 1},
            [
                "cat/test, cat/train: not taken as splits, because other class folders have none",
                "folders in class folders are not told apart: cat/test, cat/train",
            ],
        ),
        (
            ["photos/photos/cat/1.png", "photos/photos/dog/1.png"],
            {("cat", None): 1, ("dog", None): 1},
            ["photos/photos is taken as a wrapper around the folders cat, dog"],
        ),
        (
            ["data/Train/cat/1.png", "data/Train/dog/1.png", "data/TEST/cat/1.png"],
            {("cat", "train"): 1, ("dog", "train"): 1, ("cat", "test"): 1},
            ["data is taken as a wrapper around the folders TEST, Train"],
        ),
        (["cat/1.png"], {("cat", None): 1}, []),
        (["cat/a/1.png"], {("cat", None): 1}, ["folders in class folders are not told apart: cat/a"]),
        (
            ["cat/1.png", "cat/a/1.png", "cat/b/1.png"],
            {("cat", None): 3},
            ["folders in class folders are not told apart: cat/a, cat/b"],
        ),
        (
            ["seg_train/seg_train/sea/1.png", "seg_train/seg_train/wood/1.png", "seg_test/seg_test/sea/1.png"],
            {("sea", "train"): 1, ("wood", "train"): 1, ("sea", "test"): 1},
            ["taken as wrappers around the class folders: seg_test/seg_test, seg_train/seg_train"],
        ),
        (
            ["train_set/cat/1.png", "training-set/dog/1.png", "test set/cat/1.png", "val2017/dog/1.png"],
            {("cat", "train"): 1, ("dog", "train"): 1, ("cat", "test"): 1, ("dog", "val"): 1},
            [],
        ),
        (
            ["COVID/images/1.png", "COVID/masks/1.png", "Normal/images/1.png", "Normal/masks/1.png"],
            {("COVID", None): 1, ("Normal", None): 1},
            [
                "masks left out: 2, in COVID/masks, Normal/masks" + OTHERWISE,
                "folders in class folders are not told apart: COVID/images, Normal/images",
            ],
        ),
        (["mask/1.png", "no_mask/1.png"], {("mask", None): 1, ("no_mask", None): 1}, []),
        (
            ["ground_truth/1.png"],
            {("ground_truth", None): 1},
            ["taken as a class, not as masks: ground_truth"],
        ),
        (
            ["generated/1.png", "ground_truth/1.png", "labels/1.png", "test/1.png"],
            {(name, None): 1 for name in ("generated", "ground_truth", "labels", "test")},
            [
                "test is taken as a class, like generated, ground_truth, labels beside it",
                "taken as a class, not as masks: ground_truth",
            ],
        ),
        (
            [f"{split}/{name}/1.png" for split in ("train", "test") for name in ("train", "masks", "Ground Truth")],
            {(name, split): 1 for split in ("train", "test") for name in ("train", "masks", "Ground Truth")},
            ["taken as a class, not as masks: Ground Truth"],
        ),
        (
            ["images/1.png", "masks/1.png", "hats/1.png"],
            {("images", None): 1, ("masks", None): 1, ("hats", None): 1},
            [],
        ),
        (
            ["data/image/1.png", "data/label/2.png"],
            {("image", None): 1, ("label", None): 1},
            ["data is taken as a wrapper around the folders image, label"],
        ),
        (
            ["images/1.png", "images/2.png", "masks/1_mask.png", "masks/2-L.png"],
            {("images", None): 2},
            ["masks left out: 2, in masks" + OTHERWISE],
        ),
        (
            ["ice/1.png", "ice/ground_truth/1.png", "sea/1.png"],
            {("ice", None): 1, ("sea", None): 1},
            ["masks left out: 1, in ice/ground_truth" + OTHERWISE],
        ),
        (
            ["ice/ground_truth/1.png", "sea/1.png"],
            {("ice", None): 1, ("sea", None): 1},
            ["folders in class folders are not told apart: ice/ground_truth"],
        ),
        (
            ["cat/1.png", "cat/1_mask.png", "dog/1.png", "dog/a_mask.png"],
            {("cat", None): 2, ("dog", None): 2},
            ["images that are called like masks of others beside them count as images of their class: cat/1_mask"],
        ),
        (
            ["2023/cat/1.png", "2024/cat/1.png", "2024/dog/1.png"],
            {("2023", None): 1, ("2024", None): 2},
            ["folders in class folders are not told apart: 2023/cat, 2024/cat, 2024/dog"],
        ),
        (["train1/1.png", "train2/1.png"], {("train1", None): 1, ("train2", None): 1}, []),
        (
            ["caf\u00e9/1.png", "cafe\u0301/2.png", "tea/1.png"],
            {("caf\u00e9", None): 2, ("tea", None): 1},
            ["folders that one name in two forms of Unicode has are one: caf\u00e9"],
        ),
    ],
)
def test_layouts(tmp_path: Path, names: list[str], counts: dict[tuple[str, str | None], int], notes: list[str]) -> None:
    images = load_images(fill(tmp_path, *names))
    assert images.labels is not None
    assert Counter(zip(images.labels, images.splits or [None] * len(images), strict=True)) == counts
    assert [note for note in images.notes if "not images by their names" not in note] == notes
    everything = load_images(tmp_path, labelled=False)
    assert len(everything) == len(names) - sum(name.endswith(".txt") for name in names)


def test_masks_are_those_beside_images_and_never_everything():
    assert masks_in(["images/a/1.png", "gt/a/1.png", "labels/1.png"]) == {"gt/a/1.png": "gt", "labels/1.png": "labels"}
    assert masks_in(["a/Ground-Truth/1.png", "a/2.png", "b/1.png"]) == {"a/Ground-Truth/1.png": "a/Ground-Truth"}
    assert masks_in(["ground_truth/1.png", "a/ground truth/1.png"]) == {}
    assert masks_in(["masks/1.png", "faces/1.png", "2.png"]) == {}
    assert masks_in([f"{name}/{i}.png" for name in ("img", "gt") for i in range(9)]).keys() == {
        f"gt/{i}.png" for i in range(9)
    }
