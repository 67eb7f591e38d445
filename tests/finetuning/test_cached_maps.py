"""Cached maps are what the frozen lower part gives, of the very images of the codes file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_network import UNCROPPED

from cnncodes import CodesFile, ImageSet, extract, load_backbone
from cnncodes.errors import MismatchError, ProbeError
from cnncodes.finetuning.cached_maps import CachedMaps, cached_maps
from cnncodes.networks.cut import cut_before


def test_maps_are_those_of_the_layer_in_the_order_of_the_rows(striped_codes, stripes):
    backbone = load_backbone("staged")
    rows = np.array([40, 3, 17])
    with CodesFile.open(striped_codes) as file:
        maps = cached_maps(file, rows, cut_before(backbone, "layer3"), stripes.take(list(range(59, -1, -1))))
    pixels = torch.stack([torch.from_numpy(stripes.sources[row]).permute(2, 0, 1) for row in rows])
    with torch.no_grad():
        expected = backbone.extractor(["layer2"])(UNCROPPED.normalise(pixels))["layer2"]
    assert maps.values.dtype == np.float16
    assert maps.values.shape == (3, 1, 8, 4, 4)
    np.testing.assert_allclose(maps.values[:, 0], expected.numpy(), rtol=2e-3, atol=2e-3)
    batch = maps.batch(np.array([2, 0]))
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch.numpy(), maps.values[[2, 0], 0].astype(np.float32))


def test_pixels_are_kept_as_they_are_and_normalised_when_they_are_taken(striped_codes, stripes):
    with CodesFile.open(striped_codes) as file:
        maps = cached_maps(file, np.array([5, 2]), cut_before(load_backbone("staged"), "all"), stripes)
    assert maps.values.dtype == np.uint8
    np.testing.assert_array_equal(maps.values[1, 0].transpose(1, 2, 0), stripes.sources[2])
    pixels = torch.from_numpy(maps.values[:, 0])
    torch.testing.assert_close(maps.batch(np.array([0, 1])), UNCROPPED.normalise(pixels))


def test_each_view_has_its_map(stripes, tmp_path):
    extract(stripes, tmp_path / "codes.h5", backbone="staged", precision="fp32", views="flip", layers="penultimate")
    with CodesFile.open(tmp_path / "codes.h5") as file:
        pixels = cached_maps(file, np.arange(4), cut_before(load_backbone("staged"), "all"), stripes)
        maps = cached_maps(file, np.arange(4), cut_before(load_backbone("staged"), "layer4"), stripes)
    assert maps.n_views == 2
    np.testing.assert_array_equal(pixels.values[:, 0], pixels.values[:, 1, :, :, ::-1])
    np.testing.assert_array_equal(pixels.batch(np.array([1]), np.array([1]))[0], pixels.batch(np.array([1]))[1])
    assert maps.batch(np.array([3, 0])).shape == (4, 12, 2, 2)


def test_other_images_are_refused(striped_codes, stripes):
    cut = cut_before(load_backbone("staged"), "layer4")
    changed = list(stripes.sources)
    changed[7] = 255 - changed[7]
    with CodesFile.open(striped_codes) as file:
        with pytest.raises(MismatchError, match=r"across/07 is another image than in .*extract again"):
            cached_maps(file, np.arange(10), cut, ImageSet(stripes.ids, changed))
        with pytest.raises(MismatchError, match=r"'across/00' and 9 more images .* are not among"):
            cached_maps(file, np.arange(10), cut, stripes.take(list(range(10, 60))))
        with pytest.raises(ProbeError, match=r"keeps no maps of layer3; name the images"):
            cached_maps(file, np.arange(10), cut, None)


def test_maps_that_memory_does_not_hold_are_refused_before_they_are_computed(striped_codes, stripes, monkeypatch):
    monkeypatch.setattr("cnncodes.finetuning.cached_maps.memory_left", lambda: 100)
    with CodesFile.open(striped_codes) as file, pytest.raises(ProbeError, match="of memory are free; train fewer"):
        cached_maps(file, np.arange(10), cut_before(load_backbone("staged"), "layer4"), stripes)


def test_batch_of_all_views_has_one_image_after_the_other():
    values = np.arange(24, dtype=np.float16).reshape(3, 2, 4)
    maps = CachedMaps(values, UNCROPPED)
    assert maps.batch(np.array([2, 0]))[:, 0].tolist() == [16, 20, 0, 4]
    assert maps.batch(np.array([2, 0]), np.array([1, 0]))[:, 0].tolist() == [20, 0]
