"""Feature maps that are kept with the codes: right, from the same pass, and as safe as codes are."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from command_line import failed, run
from photo_crops import cosines
from PIL import Image
from tiny_network import UNCROPPED
from torch import nn

from cnncodes import CodesFile, compare, extract, fit, load_codes, merge, register_backbone, verify
from cnncodes.errors import CodesFileError, MismatchError, SettingError
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

TINY: dict[str, Any] = {"backbone": "mapped", "layers": ["1", "penultimate"], "batch_size": 4}
MAPS = ["1", "2"]  # of a layer that has codes, too, and of one that has not
N = 15


def build_tiny() -> nn.Module:
    stages = [nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))


@pytest.fixture(scope="module", autouse=True)
def tiny_backbone() -> None:
    register_backbone("mapped", build_tiny, preprocessing=UNCROPPED, overwrite=True)


@pytest.fixture(scope="module")
def images(small_sample: Path) -> Path:
    return small_sample / "test"


@pytest.fixture(scope="module")
def with_maps(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen images through a tiny network, with maps of two layers."""
    path = tmp_path_factory.mktemp("maps") / "codes.h5"
    extract(images, path, maps=MAPS, **TINY)
    return path


@pytest.fixture(scope="module")
def without_maps(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "codes.h5"
    extract(images, path, **TINY)
    return path


# -------------------------------------------------------------------------------------------------------------- values


def hooked(paths: list[Path], node: str, *, mirrored: bool = False) -> np.ndarray:
    """What a hook sees in plain torchvision, one image at a time, with its own transform for PIL images."""
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    transform = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    seen: list[torch.Tensor] = []
    network.eval().get_submodule(node).register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.inference_mode():
        for path in paths:
            pixels = transform(Image.open(path))[None]
            network(pixels.flip(-1) if mirrored else pixels)
    return torch.cat(seen).numpy()


def test_maps_are_those_of_plain_torchvision_rounded_to_float16(photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.rglob("*.png"))[1:4]
    expected = hooked(paths, "features.13")
    extract(paths, tmp_path / "codes.h5", maps="layer3", precision="fp32", exact_decode=True)
    with CodesFile.open(tmp_path / "codes.h5") as file:
        maps = file.maps("layer3")[:]
        assert (maps.shape, maps.dtype, file.provenance.precision) == ((3, 96, 14, 14), np.float16, "fp32")
        rounding = np.abs(expected) * 2**-11 + 1e-5 * np.abs(expected).max()
        assert (np.abs(maps - expected) <= rounding).all()
        pooled = maps.astype(np.float32).mean(axis=(2, 3))
        np.testing.assert_allclose(file.codes("layer3"), pooled, atol=1e-3 * np.abs(pooled).max())


def test_views_have_their_own_maps(photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.rglob("*.png"))[:2]
    settings: dict[str, Any] = {"precision": "fp32", "exact_decode": True, "layers": ["penultimate"]}
    extract(paths, tmp_path / "codes.h5", maps="features.16", views="flip", **settings)
    with CodesFile.open(tmp_path / "codes.h5") as file:
        maps = file.maps("features.16")
        assert maps.shape == (2, 2, 160, 7, 7)
        for view, mirrored in enumerate((False, True)):
            expected = hooked(paths, "features.16", mirrored=mirrored)
            np.testing.assert_allclose(maps[:, view], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_maps_in_bfloat16_are_recorded_as_such(images: Path, tmp_path: Path) -> None:
    paths = sorted(images.rglob("*.png"))[::4]
    for precision in ("fp32", "bf16"):
        settings = {"image_size": 64, "layers": "layer3", "precision": precision}
        extract(paths, tmp_path / f"{precision}.h5", maps="layer3", **settings)
    with CodesFile.open(tmp_path / "bf16.h5") as file, CodesFile.open(tmp_path / "fp32.h5") as exact:
        a, b = (one.maps("layer3")[:].astype(np.float32).reshape(4, -1) for one in (file, exact))
        assert (file.provenance.precision, exact.provenance.precision) == ("bf16", "fp32")
    assert not np.array_equal(a, b)
    assert cosines(a, b).min() > 0.98


def test_codes_are_the_same_with_maps_and_without(with_maps: Path, without_maps: Path) -> None:
    for layer in TINY["layers"]:
        np.testing.assert_array_equal(load_codes(with_maps, layer), load_codes(without_maps, layer))


# ------------------------------------------------------------------------------------------------------------ survival


def test_maps_are_added_to_codes_and_codes_to_maps(
    images: Path, without_maps: Path, with_maps: Path, tmp_path: Path
) -> None:
    """Whatever comes first, the file is the same in the end; and what is there is not computed again."""
    added = Path(shutil.copy(without_maps, tmp_path / "added.h5"))
    assert extract(images, added, maps=MAPS).computed == N
    assert added.read_bytes() == with_maps.read_bytes()
    assert extract(images, added).computed == 0  # the maps are asked for by the file itself
    grown = tmp_path / "grown.h5"
    extract(images, grown, backbone="mapped", layers="1", maps="1", batch_size=4)
    extract(images, grown, layers="penultimate", maps="2")
    assert grown.read_bytes() == with_maps.read_bytes()


def test_only_what_lies_below_a_map_runs_again_when_it_is_added(
    images: Path, without_maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnncodes.runtime.frozen_network import FrozenNetwork

    path, computed = Path(shutil.copy(without_maps, tmp_path / "codes.h5")), []
    call = FrozenNetwork.__call__
    monkeypatch.setattr(
        FrozenNetwork, "__call__", lambda self, *args: computed.append(self.plan.computed) or call(self, *args)
    )
    extract(images, path, maps="1")
    assert set(computed) == {("maps/1",)}


def test_an_interrupted_run_goes_on_to_the_same_bytes(images: Path, with_maps: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.h5"

    def interrupt(done: int, total: int, failed: int) -> None:
        if done >= total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(images, out, maps=MAPS, progress=interrupt, workers=1, **TINY)
    assert 0 < extract(images, out, maps=MAPS, **TINY).computed < N
    assert out.read_bytes() == with_maps.read_bytes()


def test_shards_with_maps_merge_into_the_file_of_one_extraction(images: Path, with_maps: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"{i}.h5" for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        extract(images, part, maps=MAPS, shard=(i, 2), **TINY)
    merge(parts, tmp_path / "merged.h5")
    assert (tmp_path / "merged.h5").read_bytes() == with_maps.read_bytes()
    extract(images, parts[1], maps="3", shard=(2, 2))  # a part that has more maps does not belong to the others
    with pytest.raises(MismatchError, match="do not belong together: maps"):
        merge(parts, tmp_path / "merged.h5")


def test_images_are_added_and_dropped_with_their_maps(images: Path, with_maps: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "codes.h5"
    for name in ("Bag", "Sandal"):
        shutil.copytree(images / name, folder / name)
    extract(folder, out, maps=MAPS, **TINY)
    assert extract(images, out, add=True).computed == 5
    with CodesFile.open(out) as file, CodesFile.open(with_maps) as whole:
        assert file.ids.tolist() == whole.ids.tolist()
        for layer in whole.map_layers:
            np.testing.assert_array_equal(file.maps(layer)[:], whole.maps(layer)[:])
        before = whole.maps("1")[:]
    shutil.rmtree(folder / "Bag")
    assert extract(folder, out, prune=True).computed == 0
    with CodesFile.open(out) as file:
        np.testing.assert_array_equal(file.maps("1")[:], before[5:10])
        assert len(file.verify()) == 0
    with pytest.raises(CodesFileError, match=r"5 of its rows are of other images, which would lack the maps of 3"):
        extract(images / "Trouser", out, maps="3", add=True)


def test_damage_in_maps_is_found(images: Path, with_maps: Path, tmp_path: Path) -> None:
    """Flip bytes of maps: verification names the row, reading it is refused, and extracting mends it."""
    path = Path(shutil.copy(with_maps, tmp_path / "codes.h5"))
    with CodesFile.open(path) as file:
        place, ids = file._columns["maps/1"].place, file.ids
    original, rng = path.read_bytes(), np.random.default_rng(0)
    for row in rng.integers(0, N, 12).tolist():
        mutated = bytearray(original)
        mutated[place.offset + row * place.row_bytes + int(rng.integers(place.row_bytes))] ^= int(rng.integers(1, 256))
        path.write_bytes(mutated)
        assert verify(path).damaged == [ids[row]]
        with CodesFile.open(path) as file:
            maps, others = file.maps("1"), np.delete(np.arange(N), row)
            assert len(maps[others]) == N - 1
            for index in (row, slice(None)):
                with pytest.raises(CodesFileError, match=r"1 row\(s\) of 'maps/1' are pending or damaged"):
                    maps[index]
            with pytest.raises(CodesFileError, match="pending or damaged"):
                maps.check()
            assert len(file.codes("penultimate")) == N
    assert extract(images, path).computed == 1
    assert path.read_bytes() == original


def test_maps_that_are_not_those_of_their_image_are_named(images: Path, with_maps: Path, tmp_path: Path) -> None:
    from cnncodes.codes.writer import CodesWriter

    path = Path(shutil.copy(with_maps, tmp_path / "codes.h5"))
    with CodesWriter(path) as file:  # with a right checksum
        file.write(np.array([7]), {"maps/2": file.maps("2", np.array([7]))[:] * 2}, file.sha256[[7]])
        name = file.ids[7]
    assert verify(path).good
    result = verify(path, images)
    assert (result.wrong, result.recomputed, round(result.largest_error, 1)) == ([name], N, 0.5)
    assert verify(with_maps, images).largest_error == 0


def test_while_maps_are_added_the_complete_rows_are_verified(images: Path, without_maps: Path, tmp_path: Path) -> None:
    path, seen = Path(shutil.copy(without_maps, tmp_path / "codes.h5")), []

    def meanwhile(done: int, total: int, failed: int) -> None:
        if done < total:
            result = verify(path, images)
            seen.append((result.good, result.pending, result.recomputed, len(result.absent)))

    extract(images, path, maps="1", workers=1, progress=meanwhile)
    assert seen == [(True, N - done, done, 0) for done in (4, 8, 12)]


def test_verification_tells_nothing_of_images_that_have_all_changed(with_maps: Path, tmp_path: Path) -> None:
    with CodesFile.open(with_maps) as file:
        for name in file.ids:
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9)).save(tmp_path / "images" / name)
    result = verify(with_maps, tmp_path / "images")
    assert (len(result.changed), result.recomputed) == (N, 0)


# ------------------------------------------------------------------------------------------------------------ overflow


class Dark(nn.Module):
    """Its maps are too large for float16 where a quarter of an image is black; its codes never are."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.dark, self.relu, self.head = nn.AvgPool2d(16), nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Linear(2, 5)
        nn.init.constant_(self.dark.weight, -1e6 / 3)
        nn.init.constant_(self.dark.bias, -0.9e6)  # 1e5 for black, 0 for what is a little lighter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.relu(self.dark(self.pool(x)))).mean((2, 3)))


def test_a_map_that_float16_does_not_hold_is_a_recorded_failure(small_sample: Path, tmp_path: Path) -> None:
    register_backbone("dark", Dark, preprocessing=UNCROPPED, overwrite=True)
    folder, out = tmp_path / "images", tmp_path / "codes.h5"
    folder.mkdir()
    for name, colour in {"black": 0, "grey": 90, "white": 255}.items():
        Image.new("RGB", (40, 40), (colour,) * 3).save(folder / f"{name}.png")
    settings = {"backbone": "dark", "layers": "penultimate"}
    assert extract(folder, out, **settings).failed == 0
    done = extract(folder, out, maps="relu", **settings)
    assert (done.ok, done.failed) == (2, 1)
    assert done.failures["black.png"].startswith("float16 does not hold its map of relu")
    with CodesFile.open(out) as file:
        assert np.isfinite(file.maps("relu")[:]).all()
        assert file.ids[file.maps("relu").rows].tolist() == ["grey.png", "white.png"]


def test_a_layer_that_float16_does_not_hold_at_all_is_refused_before_the_first_image(
    small_sample: Path, tmp_path: Path
) -> None:
    def huge() -> nn.Module:
        conv = nn.Conv2d(3, 2, 8, 8)
        nn.init.constant_(conv.weight, 1e5)
        return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5))

    register_backbone("huge", huge, preprocessing=UNCROPPED, overwrite=True)
    with pytest.raises(SettingError, match="float16 does not hold the maps of 0 of huge"):
        extract(small_sample, tmp_path / "codes.h5", backbone="huge", layers="penultimate", maps="0")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------- who looks


def test_the_size_is_said_before_the_first_image(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnncodes.images.image_set import ImageSet

    def stop(images: ImageSet, row: int, claim: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageSet, "read_bytes", stop)
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        extract(images, tmp_path / "codes.h5", maps="1", **TINY)
    assert "maps of 1, 8×8×8 in float16: 1.0 kB an image, 0.0 MB for 15 images" in caplog.text


def test_info_shows_maps_and_their_size(with_maps: Path) -> None:
    import json

    info = json.loads(run("info", with_maps, "--json").stdout)
    assert info["maps"] == {
        "1": {"shape": [8, 8, 8], "dtype": "float16", "bytes": 15 * 8 * 64 * 2},
        "2": {"shape": [12, 4, 4], "dtype": "float16", "bytes": 15 * 12 * 16 * 2},
    }
    assert "  1                    8×8×8 in float16, 0.0 MB\n" in run("info", with_maps).stdout
    with CodesFile.open(with_maps) as file:
        assert "<th>maps of 1</th><td>8×8×8 in float16, 0.0 MB</td>" in file._repr_html_()


def test_classifiers_do_not_look_at_maps(with_maps: Path, without_maps: Path) -> None:
    a, b = (fit(path, C=0.01, cv=2) for path in (with_maps, without_maps))
    np.testing.assert_array_equal(a.coef, b.coef)
    rows = [[row.layers for row in compare(path, cv=2, repeats=1).probes] for path in (with_maps, without_maps)]
    assert rows[0] == rows[1]


def test_the_command_keeps_maps_and_refuses_what_gives_none(images: Path, with_maps: Path, tmp_path: Path) -> None:
    words = ("extract", images, "-o", tmp_path / "codes.h5", "--backbone", "mapped", "--batch-size", 4)
    run(*words, "--layer", "1", "--layer", "penultimate", "--map", "1", "--map", "2")
    assert (tmp_path / "codes.h5").read_bytes() == with_maps.read_bytes()
    assert "mapped has no layer 'layer3'" in failed(*words, "--map", "layer3")
    assert "penultimate of mapped gives a vector, not a map" in failed(*words, "--map", "penultimate")
    assert "the maps of 6:input are those of penultimate; name one" in failed(
        *words, "--map", "penultimate", "--map", "6:input"
    )
