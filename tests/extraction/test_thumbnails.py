"""Small pictures are kept with the codes: of new files, on request of old ones, and by whatever copies rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnncodes import extract, merge
from cnncodes.codes.file import CodesFile
from cnncodes.codes.thumbnails import present, to_rgb
from cnncodes.extraction.prepare import widen
from cnncodes.extraction.thumbnails import thumbnail_of
from cnncodes.runtime.frozen_network import FrozenNetwork

SMALL: dict[str, Any] = {"layers": ["layer1"], "image_size": 64}


def draw(folder: Path, n: int, seed: int) -> Path:
    """Smooth pictures of several shapes, the first of which is two pixels wide."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(n):
        noise = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        noise.resize(((2, 90, 40)[i % 3], 60 + 10 * i), Image.Resampling.BICUBIC).save(folder / f"{seed}{i}.png")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    draw(tmp_path / "images" / "a", 4, 0)
    draw(tmp_path / "images" / "b", 4, 1)
    return tmp_path / "images"


def thumbnails(path: Path) -> dict[str, bytes]:
    with CodesFile.open(path) as file:
        records = file.thumbnails(np.arange(file.n))
        names = file.ids.tolist()
        return {
            name: record.tobytes() for name, record, here in zip(names, records, present(records), strict=True) if here
        }


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (300, 200)])
def test_the_whole_image_becomes_a_square_as_pillow_makes_it(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    record = thumbnail_of(noise.transpose(2, 0, 1))
    small = Image.fromarray(noise).resize((64, 64), Image.Resampling.BILINEAR)
    difference = record["grey"][0].astype(int) - np.asarray(small.convert("L"))
    assert np.abs(difference).max() <= 2
    assert record["size"][0].tolist() == [shape[1], shape[0]]


def test_a_new_file_keeps_pictures_and_no_thumbnails_keeps_none(images: Path, tmp_path: Path) -> None:
    extract(images, tmp_path / "with.h5", **SMALL)
    extract(images, tmp_path / "without.h5", **SMALL, thumbnails=False)
    kept = thumbnails(tmp_path / "with.h5")
    assert len(kept) == 8
    with CodesFile.open(tmp_path / "with.h5") as file, CodesFile.open(tmp_path / "without.h5") as bare:
        np.testing.assert_array_equal(file.codes("layer1"), bare.codes("layer1"))
        assert not bare.has_thumbnails
        row = file.ids.tolist().index("a/01.png")
        shown = to_rgb(file.thumbnails(np.array([row])))[0]
    small = Image.open(images / "a" / "01.png").resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(shown.astype(int) - np.asarray(small)).mean() < 5
    size = (tmp_path / "with.h5").stat().st_size - (tmp_path / "without.h5").stat().st_size
    assert abs(size - 8 * 4616) < 4096


def test_a_file_without_pictures_gets_them_without_running_the_network(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "codes.h5"
    extract(images, tmp_path / "new.h5", **SMALL)
    extract(images, path, **SMALL, thumbnails=False)
    extract(images, path, **SMALL)
    assert thumbnails(path) == {}  # it stays as it is unless it is asked for
    monkeypatch.setattr(FrozenNetwork, "__call__", None)
    extract(images, path, **SMALL, thumbnails=True)
    assert path.read_bytes() == (tmp_path / "new.h5").read_bytes()
    extract(images, path, **SMALL, thumbnails=False)
    with CodesFile.open(path) as file:
        assert not file.has_thumbnails
        assert file.complete


def test_a_damaged_picture_is_made_again_and_no_code_is_computed(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "codes.h5"
    extract(images, path, **SMALL)
    before = path.read_bytes()
    with CodesFile.open(path) as file:
        place = file._columns["images/thumbnail"].place
    with path.open("r+b") as stream:
        stream.seek(place.offset + 3 * place.row_bytes + 50)
        stream.write(b"\1\2\3")
    with CodesFile.open(path) as file:
        assert file.verify().tolist() == [3]
    assert extract(images, path, **SMALL).computed == 0
    assert path.read_bytes() == before


def test_pictures_survive_added_images_more_layers_a_wider_type_and_a_new_name(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "codes.h5"
    extract(images, path, **SMALL)
    first = thumbnails(path)
    extract(draw(tmp_path / "more", 3, 2), path, add=True)
    assert thumbnails(path).items() > first.items()
    assert len(thumbnails(path)) == 11
    extract(images, path, prune=True)
    (images / "a" / "00.png").rename(images / "a" / "new.png")
    extract(images, path, layers=["layer1", "layer2"])
    renamed = thumbnails(path)
    assert renamed.pop("a/new.png") == first.pop("a/00.png")
    assert renamed == first
    widen(path)
    assert thumbnails(path).items() > renamed.items()


def test_merged_parts_keep_the_pictures_that_any_of_them_has(images: Path, tmp_path: Path) -> None:
    extract(images, tmp_path / "whole.h5", **SMALL)
    parts = [tmp_path / "1.h5", tmp_path / "2.h5"]
    for i, path in enumerate(parts, 1):
        extract(images, path, **SMALL, shard=(i, 2), thumbnails=i == 1)
    merge(parts, tmp_path / "merged.h5")
    assert len(thumbnails(tmp_path / "merged.h5")) == 4
    assert thumbnails(tmp_path / "merged.h5").items() < thumbnails(tmp_path / "whole.h5").items()
    extract(images, tmp_path / "merged.h5", **SMALL)
    assert thumbnails(tmp_path / "merged.h5") == thumbnails(tmp_path / "whole.h5")
