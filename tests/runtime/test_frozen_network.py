"""One network on several devices, with more images than their memory holds; the same code runs on GPUs."""

from __future__ import annotations

import copy
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import cnncodes.runtime.forward
import cnncodes.runtime.frozen_network
import cnncodes.runtime.tuning
from cnncodes import extract, load_codes
from cnncodes.codes.file import CodesFile
from cnncodes.codes.provenance import Provenance
from cnncodes.errors import DeviceError, MismatchError
from cnncodes.extraction.in_memory import compute_codes, in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.loading import load_images
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.precision import reference_photos
from cnncodes.system.process import inference_settings

LIMIT = "images that the memory of the device holds"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Make the device run out of memory for larger batches than ``memory[LIMIT]``."""
    limits = {LIMIT: 1000}
    plain = cnncodes.runtime.forward.Forward.forward

    def forward(self: cnncodes.runtime.forward.Forward, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(batch) > limits[LIMIT]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch)

    monkeypatch.setattr(cnncodes.runtime.forward.Forward, "forward", forward)
    return limits


def settings(**options: Any) -> Settings:
    return Settings(layers="penultimate", precision="fp32", dtype="float32", **options)


def test_a_batch_that_the_memory_does_not_hold_is_halved_until_it_does(memory: dict[str, int]) -> None:
    memory[LIMIT] = 3
    network = build_network(settings(batch_size=16))
    assert network.batch_size == 2
    assert network.describe()["runtime"]["batch_size"] == 2
    assert [note.split(":")[0] for note in network.notes] == [
        f"{size} images at once are too many for the memory of cpu" for size in (16, 8, 4)
    ]


def test_memory_that_runs_out_later_costs_no_codes(memory: dict[str, int], small_sample: Path, tmp_path: Path) -> None:
    network = build_network(settings(batch_size=8))
    images = load_images(small_sample)
    expected = in_memory(images, network).codes["penultimate"]
    memory[LIMIT] = 5
    codes = in_memory(images, network).codes["penultimate"]
    assert network.batch_size == 4
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)


def test_what_failed_for_lack_of_memory_does_not_keep_memory(memory: dict[str, int]) -> None:
    network = build_network(settings(batch_size=16))
    alive: list[weakref.ref[torch.Tensor]] = []
    plain = network._forwards[0].forward

    def forward(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        assert all(ref() is None for ref in alive), "the maps of a batch that failed are still there"
        maps = torch.zeros(len(batch), 1000)
        alive.append(weakref.ref(maps))
        return plain(batch)  # fails while `maps` is held

    network._forwards[0].forward = forward
    memory[LIMIT] = 2
    network(reference_photos(network.backbone.preprocessing))
    assert network.batch_size == 2


def test_a_compiled_network_goes_on_uncompiled_with_smaller_batches(memory: dict[str, int]) -> None:
    network = build_network(settings(batch_size=8))
    photos = reference_photos(network.backbone.preprocessing)
    expected = network(photos)["penultimate"]

    class Compiled(torch.nn.Module):  # for one size, as the compiler makes it
        def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
            assert len(batch) == 8, "this would have been compiled again"
            raise torch.OutOfMemoryError("CUDA out of memory")

    network._forwards, network.plan = [Compiled()], replace(network.plan, compiled=True)
    np.testing.assert_allclose(network(photos)["penultimate"], expected, rtol=1e-4, atol=1e-5)
    assert network.batch_size == 4
    assert network.describe()["runtime"]["compiled"] is False


def test_one_image_that_the_memory_does_not_hold_is_an_error(memory: dict[str, int]) -> None:
    memory[LIMIT] = 0
    with pytest.raises(DeviceError, match="does not hold one image of 224 pixels"):
        build_network(settings())


def test_all_devices_are_used_and_give_the_same_codes(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(small_sample, tmp_path / "one.h5", layers=["layer3"], workers=1)
    monkeypatch.setattr(cnncodes.runtime.tuning, "devices_of", lambda device: [device, device])
    used: Counter[int] = Counter()
    plain = FrozenNetwork._batch

    def counted(self: FrozenNetwork, pixels: torch.Tensor, size: int, replica: int) -> dict[str, np.ndarray]:
        used[id(self._forwards[replica])] += 1
        return plain(self, pixels, size, replica)

    network = build_network(Settings(layers="layer3", batch_size=8))  # as many as there are photographs
    network.warm_up()
    assert len({id(forward) for forward in network._forwards}) == 2
    monkeypatch.setattr(FrozenNetwork, "_batch", counted)
    for replica in range(4):
        network(reference_photos(network.backbone.preprocessing), replica)
    assert list(used.values()) == [2, 2]
    extract(small_sample, tmp_path / "two.h5", layers=["layer3"], workers=4)
    np.testing.assert_array_equal(load_codes(tmp_path / "two.h5", "layer3"), load_codes(tmp_path / "one.h5", "layer3"))


@pytest.fixture
def batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that run from now on."""
    sizes: list[int] = []
    plain = cnncodes.runtime.forward.Forward.forward

    def forward(self: cnncodes.runtime.forward.Forward, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append(len(batch))
        return plain(self, batch)

    monkeypatch.setattr(cnncodes.runtime.forward.Forward, "forward", forward)
    return sizes


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_few_images_run_alone_with_the_bits_that_they_have_in_a_batch(precision: str, batch_sizes: list[int]) -> None:
    network = build_network(Settings(layers=["layer2", "penultimate"], precision=precision, batch_size=8))
    noise = torch.randint(0, 256, (8, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with inference_settings():
        expected = network(noise)
        network.warm_up(4)
        alone = network._runs_alone
        batch_sizes.clear()
        for few in (1, 3, 4, 5):
            for name, codes in network(noise[:few]).items():
                np.testing.assert_array_equal(codes, expected[name][:few])
    assert batch_sizes == ([1] * 8 if alone else [8] * 3) + [8]
    network.warm_up(1)
    assert batch_sizes == ([1] * 8 if alone else [8] * 3) + [8], "it was tried again"


def test_images_are_padded_where_an_image_alone_has_other_bits(
    batch_sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network(settings(batch_size=8))
    plain = FrozenNetwork._batch

    def other(self: FrozenNetwork, pixels: torch.Tensor, size: int, replica: int) -> dict[str, np.ndarray]:
        codes = plain(self, pixels, size, replica)
        return codes if size > 1 else {name: np.nextafter(values, np.float32(9)) for name, values in codes.items()}

    monkeypatch.setattr(FrozenNetwork, "_batch", other)
    network.warm_up(1)
    batch_sizes.clear()
    network(reference_photos(network.backbone.preprocessing)[:1])
    assert batch_sizes == [8]


@pytest.mark.parametrize(("n_images", "views"), [(5, "none"), (3, "flip"), (1, "10crop"), (None, "none")])
def test_nothing_is_tried_for_images_that_are_not_few(
    n_images: int | None, views: str, batch_sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network(settings(batch_size=8, views=views))
    batch_sizes.clear()
    network.warm_up(n_images)
    assert batch_sizes == []


def test_compiled_code_runs_batches_of_its_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnncodes.runtime.frozen_network, "compile_forward", lambda forward, batch: forward)
    network = build_network(settings(batch_size=8, compile=True))
    sizes: list[int] = []
    plain = FrozenNetwork._batch

    def noted(self: FrozenNetwork, pixels: torch.Tensor, size: int, replica: int) -> dict[str, np.ndarray]:
        sizes.append(size)
        return plain(self, pixels, size, replica)

    monkeypatch.setattr(FrozenNetwork, "_batch", noted)
    network.warm_up(1)
    network(reference_photos(network.backbone.preprocessing)[:1])
    assert network.plan.compiled
    assert set(sizes) == {8}


def test_threads_wait_for_the_one_that_warms_the_network_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnncodes.runtime.tuning, "devices_of", lambda device: [device, device])
    network = build_network(settings())
    copies: list[int] = []

    def slow(module: torch.nn.Module) -> torch.nn.Module:
        time.sleep(0.2)
        copies.append(1)
        return copy.deepcopy(module)

    monkeypatch.setattr(cnncodes.runtime.frozen_network, "copy", SimpleNamespace(deepcopy=slow))

    def warm_up(_: int) -> int:
        network.warm_up()
        return len(network._forwards)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(warm_up, range(4))) == [2] * 4
    assert len(copies) == 1


def test_a_restricted_network_computes_less_and_leaves_the_other_as_it_is() -> None:
    network = build_network(Settings(layers=["layer1", "layer3"], image_size=64))
    photos = reference_photos(network.backbone.preprocessing)
    expected = network(photos)
    less = network.restricted(["layer1"])
    assert network.restricted([]) is network.restricted(["layer3", "layer1"]) is network
    np.testing.assert_array_equal(less(photos)["layer1"], expected["layer1"])
    assert (less.plan.computed, network.plan.computed) == (("layer1",), ("layer1", "layer3"))
    assert len(list(less.extractor.modules())) < len(list(network.extractor.modules()))


def test_codes_that_are_not_finite_are_a_recorded_failure(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FrozenNetwork.__call__

    def broken(self: FrozenNetwork, pixels: torch.Tensor, replica: int = 0) -> dict[str, np.ndarray]:
        codes = plain(self, pixels, replica)
        codes["layer1"][0, 3] = np.nan
        return codes

    monkeypatch.setattr(FrozenNetwork, "__call__", broken)
    done = extract(small_sample, tmp_path / "codes.h5", layers=["layer1"], batch_size=16, workers=1)
    assert (done.ok, done.failed) == (42, 3)
    assert set(done.failures) == {load_images(small_sample).ids[row] for row in (0, 16, 32)}
    assert "not finite numbers; extract in the precision fp32" in next(iter(done.failures.values()))


def test_a_provenance_that_lacks_a_setting_is_refused(sample_codes: Path, small_sample: Path) -> None:
    with CodesFile.open(sample_codes) as file:
        fields = {name: value for name, value in file.provenance.to_dict().items() if name != "dtype"}
    with pytest.raises(MismatchError, match=r"lacks 'dtype'.*extract again"):
        compute_codes(load_images(small_sample), Provenance.from_dict(fields))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_a_gpu_gives_the_codes_of_the_processor(small_sample: Path, precision: str) -> None:
    images = load_images(small_sample)
    expected = in_memory(images, build_network(settings(device="cpu"))).codes["penultimate"]
    network = build_network(Settings(layers="penultimate", precision=precision, device="cuda", dtype="float32"))
    codes = in_memory(images, network).codes["penultimate"].astype(np.float32)
    cosines = (codes * expected).sum(1) / np.linalg.norm(codes, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.998
    if precision == "fp32":  # in full: TF32 is a hundred times as far away
        assert np.abs(codes - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.gpu
def test_a_batch_too_large_for_a_gpu_is_halved() -> None:
    memory = torch.cuda.get_device_properties(0).total_memory
    network = build_network(settings(device="cuda", batch_size=2 ** int(np.log2(memory / 2**20))))
    assert "too many" in network.notes[0]
    network(reference_photos(network.backbone.preprocessing))
