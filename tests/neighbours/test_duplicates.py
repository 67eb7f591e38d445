"""Near-duplicates: found by their codes and pictures, and never on both sides of a split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from photo_tiles import CHANGES, tiles

from cnncodes import extract
from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError
from cnncodes.images.loading import load_images
from cnncodes.neighbours import duplicates
from cnncodes.neighbours.duplicates import Duplicates, find_duplicates, join_groups


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """38 tiles in two classes and two splits, and of every second one a changed copy in the split `train`."""
    root = tmp_path_factory.mktemp("planted")
    for i, tile in enumerate(tiles()):
        split, label = ("test", "train")[i % 3 > 0], ("china", "flower")[i >= 24]
        folder = root / "images" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        tile.save(folder / f"{i:02d}.png")
        if i % 2:
            copies = root / "images" / "train" / label
            copies.mkdir(parents=True, exist_ok=True)
            CHANGES[i // 2 % 4](tile).save(copies / f"{i:02d}-copy.png")
    shutil.copy(root / "images/train/china/01.png", root / "images/train/china/01-again.png")
    extract(root / "images", root / "codes.h5", layers=["penultimate"])
    shutil.copy(root / "codes.h5", root / "bare.h5")
    extract(root / "images", root / "bare.h5", thumbnails=False)
    return root


def number(name: str) -> str:
    return Path(name).name[:2]


@pytest.mark.parametrize("codes", ["codes.h5", "bare.h5"])
def test_changed_copies_are_found_by_pictures_of_the_file_or_of_the_images(planted: Path, codes: str) -> None:
    with CodesFile.open(planted / codes) as file:
        found = find_duplicates(file, file.rows(), planted / "images" if codes == "bare.h5" else None)
        names = file.ids[file.rows()][found.pairs].tolist()
    assert all(number(first) == number(second) for first, second in names)
    assert len({number(first) for first, _ in names}) >= 18  # of 19
    assert [pair for pair, exact in zip(names, found.exact, strict=True) if exact] == [
        ["train/china/01-again.png", "train/china/01.png"]
    ]
    assert (found.similarity > 0.9).all()


def test_codes_alone_find_fewer_and_no_false_ones(planted: Path) -> None:
    with CodesFile.open(planted / "bare.h5") as file:
        found = find_duplicates(file, file.rows())
        names = file.ids[file.rows()][found.pairs].tolist()
    assert all(number(first) == number(second) for first, second in names)
    assert 9 <= len({number(first) for first, _ in names}) < 19
    assert found.notes == [duplicates.NO_THUMBNAILS]
    assert found.by_codes


@pytest.mark.parametrize("seed", range(4))
def test_images_that_are_not_given_are_compared_by_their_codes(planted: Path, seed: int) -> None:
    images = load_images(planted / "images")
    given = np.random.default_rng(seed).permutation(len(images))[: len(images) // 2]
    with CodesFile.open(planted / "bare.h5") as file:
        found = find_duplicates(file, file.rows(), images.take(given.tolist()))
        by_codes = find_duplicates(file, file.rows())
        names = file.ids[file.rows()]
    assert "29 of 58 images are not among those given: compared by their codes alone" in found.notes
    assert found.by_codes
    assert all(number(first) == number(second) for first, second in names[found.pairs])
    absent = ~np.isin(names, np.array(images.ids)[given])
    expected = {tuple(pair) for pair in by_codes.pairs.tolist() if absent[pair].any()}
    assert {tuple(pair) for pair in found.pairs.tolist() if absent[pair].any()} == expected


def test_images_of_another_place_are_refused(planted: Path, photos: Path) -> None:
    with CodesFile.open(planted / "codes.h5") as file, pytest.raises(ImagesError, match="58 of the 58 images"):
        find_duplicates(file, file.rows(), photos)


COST = "comparing 58 images with each other takes about 2 minutes on two cores, and 0.6 GB"
LEFT_OUT = "only exact duplicates are looked for, near ones are left out"


@pytest.mark.parametrize(
    ("most", "near", "task"),
    [(58, True, "looking for near-duplicates"), (57, True, LEFT_OUT), (58, False, LEFT_OUT)],
)
def test_what_a_long_search_costs_or_leaves_out_is_said_before_it_starts(
    planted: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: int,
    near: bool,
    task: str,
) -> None:
    said: list[list[str]] = []

    def watched(table: np.ndarray) -> np.ndarray:  # the first step of either search
        said.append(list(caplog.messages))
        return table

    monkeypatch.setattr(duplicates, "MOST", most)
    monkeypatch.setattr(duplicates, "PRODUCTS_PER_SECOND", 58**2 * 1280 / 120)
    if task == LEFT_OUT:
        digests = duplicates._same_bytes
        monkeypatch.setattr(duplicates, "_same_bytes", lambda table: digests(watched(table)))
    else:
        monkeypatch.setattr(duplicates, "averaged", watched)
    with CodesFile.open(planted / "codes.h5") as file:
        find_duplicates(file, file.rows(), near=near)
    assert said == [[f"{task}: {COST}"]]
    assert caplog.messages == [f"{task}: {COST}"]


def test_a_search_of_seconds_is_not_announced(planted: Path, caplog: pytest.LogCaptureFixture) -> None:
    with CodesFile.open(planted / "codes.h5") as file:
        find_duplicates(file, file.rows())
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("n", "cost"),
    [
        (20_000, "13 s on two cores, and 0.8 GB"),
        (100_000, "5 minutes on two cores, and 2.0 GB"),
        (1_000_000, "533 minutes on two cores, and 20.0 GB"),
    ],
)
def test_the_cost_grows_with_the_square(planted: Path, n: int, cost: str) -> None:
    with CodesFile.open(planted / "codes.h5") as file:
        assert duplicates._cost(n, file, "penultimate") == f"comparing {n:,} images with each other takes about {cost}"


def test_groups_are_joined_through_chains() -> None:
    pairs = np.array([[0, 1], [2, 3]])
    joined = join_groups(np.array(["", "a", "a", "", "b", "", "b"]), Duplicates(pairs, np.ones(2), np.ones(2, bool)))
    assert joined[0] == joined[1] == joined[2] == joined[3] != ""
    assert joined[4] == joined[6] != joined[0]
    assert joined[5] == ""
