"""Cached maps are what the frozen lower part gives, of the very images of the codes file."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_network import UNCROPPED

from cnncodes import CodesFile, ImageSet, extract, load_backbone
from cnncodes.errors import CodesFileError, MismatchError, ProbeError
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
    maps = CachedMaps(values, (4,))
    assert maps.batch(np.array([2, 0]))[:, 0].tolist() == [16, 20, 0, 4]
    assert maps.batch(np.array([2, 0]), np.array([1, 0]))[:, 0].tolist() == [20, 0]


@pytest.fixture(scope="module", params=["none", "flip"])
def codes_with_maps(request, stripes, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "codes.h5"
    options = {"precision": "fp32", "layers": "penultimate", "views": request.param}
    extract(stripes, path, backbone="staged", maps="layer2", **options)
    return path


def test_maps_of_the_file_are_those_that_would_be_computed(codes_with_maps, stripes, monkeypatch):
    rows = np.array([40, 3, 17])
    cut = cut_before(load_backbone("staged"), "layer3")
    with CodesFile.open(codes_with_maps) as file:
        kept = cached_maps(file, rows, cut, None)
        monkeypatch.setattr("cnncodes.finetuning.cached_maps._kept_maps", lambda *_: None)
        computed = cached_maps(file, rows, cut, stripes)
        assert (kept.n_views, kept.map_shape) == (computed.n_views, computed.map_shape)
        order = np.array([2, 0, 1, 1])
        torch.testing.assert_close(kept.batch(order), computed.batch(order), rtol=2**-10, atol=1e-6)
        views = order % kept.n_views
        torch.testing.assert_close(kept.batch(order, views), computed.batch(order, views), rtol=2**-10, atol=1e-6)


def test_maps_under_another_name_of_the_layer_are_found(stripes, tmp_path):
    extract(stripes, tmp_path / "codes.h5", backbone="staged", maps="layer2.2", layers="penultimate")
    backbone = load_backbone("staged")
    assert {"layer2", "layer2.2", "layer3:input", "layer3.0:input"} <= cut_before(backbone, "layer3").names
    with CodesFile.open(tmp_path / "codes.h5") as file:
        expected = file.maps("layer2.2")[4].astype(np.float32)
        for first in ("layer3", "layer3.0"):
            maps = cached_maps(file, np.array([4]), cut_before(backbone, first), None)
            np.testing.assert_array_equal(maps.batch(np.array([0]))[0], expected)


def test_codes_are_the_maps_of_the_head(codes_with_maps):
    with CodesFile.open(codes_with_maps) as file:
        maps = cached_maps(file, np.array([7, 2]), cut_before(load_backbone("staged"), "head"), None)
        assert maps.batch(np.array([1])).shape == (maps.n_views, 16)
        codes = file.codes("penultimate", np.array([2]))
    np.testing.assert_array_equal(maps.batch(np.array([1])).reshape(codes.shape), codes)


def test_precision_of_maps_that_were_kept_is_noted(stripes, tmp_path):
    paths = []
    for precision in ("fp32", "bf16"):
        paths.append(tmp_path / f"{precision}.h5")
        options = {"layers": "penultimate", "maps": "layer2", "precision": precision}
        extract(stripes, paths[-1], backbone="staged", **options)
    notes = []
    for path in paths:
        with CodesFile.open(path) as file:
            notes.append(cached_maps(file, np.arange(3), cut_before(load_backbone("staged"), "layer3"), None).notes)
    assert notes[0] == ()
    assert "maps of layer2 that were computed in bf16; the model computes them in fp32" in notes[1][0]


def test_damaged_maps_are_refused_before_training(codes_with_maps, tmp_path):
    path = tmp_path / "codes.h5"
    shutil.copy(codes_with_maps, path)
    with CodesFile.open(path) as file:
        row = file.maps("layer2")[33].tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(row)] ^= 1
    path.write_bytes(data)
    with CodesFile.open(path) as file:
        cut = cut_before(load_backbone("staged"), "layer3")
        assert cached_maps(file, np.arange(33), cut, None).batch(np.array([32])).isfinite().all()
        with pytest.raises(CodesFileError, match=r"row\(s\) of 'maps/layer2' are pending or damaged"):
            cached_maps(file, np.arange(60), cut, None)


def test_maps_that_are_computed_are_said_how_to_be_kept(striped_codes, stripes, caplog):
    with CodesFile.open(striped_codes) as file:
        cached_maps(file, np.arange(3), cut_before(load_backbone("staged"), "layer4"), stripes)
        assert "maps of layer3 are computed from the images; to keep them" in caplog.text
        assert "extract(…, maps=['layer3'])" in caplog.text
        caplog.clear()
        cached_maps(file, np.arange(3), cut_before(load_backbone("staged"), "all"), stripes)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
