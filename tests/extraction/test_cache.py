"""A cache finds rows by the bytes of their images, and computes only what it lacks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnncodes.codes.file import CodesFile
from cnncodes.errors import ImagesError, MismatchError
from cnncodes.extraction import sources
from cnncodes.extraction.cache import cached_codes
from cnncodes.extraction.settings import Settings
from cnncodes.images.image_set import ImageSet
from cnncodes.images.loading import load_images


@pytest.fixture
def cache(sample_codes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample_codes, tmp_path / "cache.h5"))


def test_rows_are_found_by_their_bytes_without_a_network(
    cache: Path, small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnncodes.extraction.kept_network.build_network", lambda *_: pytest.fail("a network was built"))
    with CodesFile.open(cache) as file:
        rows = [30, 2, 2]
        expected = file.codes(["layer1", "penultimate"], np.array(rows))
        paths = [small_sample / file.ids[row] for row in rows]
    renamed = [Path(shutil.copy(path, tmp_path / f"{i}.png")) for i, path in enumerate(paths)]
    before = cache.read_bytes()
    codes = cached_codes(cache, load_images(renamed), ["layer1", "penultimate"], Settings())
    np.testing.assert_array_equal(codes, expected)
    assert cache.read_bytes() == before


def test_other_settings_are_refused_and_the_cache_stays(cache: Path, small_sample: Path) -> None:
    before = cache.read_bytes()
    with pytest.raises(MismatchError, match="pooling is 'avg', asked 'max'"):
        cached_codes(cache, load_images(small_sample), ["layer1"], Settings(pooling="max"))
    assert cache.read_bytes() == before


def test_a_cache_does_not_lend_its_pooling(small_sample: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    images, path = load_images(sorted(small_sample.rglob("*.png"))[:2]), tmp_path / "cache.h5"
    plain = Settings("timm:test_vit", "random")
    codes = cached_codes(path, images, ["layer4"], plain)
    with CodesFile.open(path) as file:
        assert file.provenance.pooling == "cls"
    before = path.read_bytes()
    with pytest.raises(MismatchError, match="pooling is 'cls', asked 'patches'"):
        cached_codes(path, images, ["layer4"], replace(plain, pooling="patches"))
    np.testing.assert_array_equal(cached_codes(path, images, ["layer4"], plain), codes)
    assert path.read_bytes() == before
    patches = cached_codes(tmp_path / "patches.h5", images, ["layer4"], replace(plain, pooling="patches"))
    assert np.abs(patches - codes).max() > 0.1
    with pytest.raises(MismatchError, match="pooling is 'patches', asked 'cls'"):
        cached_codes(tmp_path / "patches.h5", images, ["layer4"], plain)


@pytest.mark.parametrize(("option", "field"), [("ignore_profiles", "ignore_profiles"), ("exact_decode", "exact")])
def test_a_cache_does_not_lend_its_way_of_decoding(option: str, field: str, small_sample: Path, tmp_path: Path) -> None:
    images = load_images(sorted(small_sample.rglob("*.png"))[:2])
    plain, path = Settings(image_size=64), tmp_path / "cache.h5"
    asked = replace(plain, **{option: True})
    expected = cached_codes(path, images, ["layer1"], asked)
    before = path.read_bytes()
    with pytest.raises(MismatchError, match=f"preprocessing.{field} is True, asked False.* Ask for the same"):
        cached_codes(path, images, ["layer1"], plain)
    np.testing.assert_array_equal(cached_codes(path, images, ["layer1"], asked), expected)
    assert path.read_bytes() == before


def test_an_image_that_cannot_be_read_is_named(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    images = load_images([tmp_path / "broken.png"])
    for _ in range(2):  # it is recorded the first time
        with pytest.raises(ImagesError, match=r"leave this image out"):
            cached_codes(cache, images, ["layer1"], Settings())


@pytest.mark.parametrize("damaged", [False, True])
def test_an_image_that_changes_while_it_is_read_lends_its_codes_to_none(
    damaged: bool, small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, third = sorted(small_sample.rglob("*.png"))[:3]
    path, copy = tmp_path / "changing.png", Path(shutil.copy(one, tmp_path / "copy.png"))
    shutil.copy(one, path)

    def all_digests(images: ImageSet) -> list[bytes]:
        digests = sources.all_digests(images)
        path.write_bytes(other.read_bytes()[: 200 if damaged else None])
        return digests

    cache, settings = tmp_path / "cache.h5", Settings(image_size=64)
    with monkeypatch.context() as patch:
        patch.setattr("cnncodes.extraction.cache.all_digests", all_digests)
        with pytest.raises(ImagesError, match=r"changing\.png: it was changed while it was read; leave this image out"):
            cached_codes(cache, load_images([third, path]), ["layer1"], settings)
    shutil.copy(other, path)
    images = load_images([copy, path, third])
    expected = cached_codes(tmp_path / "fresh.h5", images, ["layer1"], settings)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_array_equal(cached_codes(cache, images, ["layer1"], settings), expected)
