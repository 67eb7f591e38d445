"""One network on several devices, with more images than their memory holds; the same code runs on GPUs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cnncodes.extraction
import cnncodes.forward
import cnncodes.runtime
from cnncodes import extract, load_codes
from cnncodes.codes import CodesFile
from cnncodes.computing import compute_codes, in_memory
from cnncodes.errors import BackboneError, MismatchError
from cnncodes.images import load_images
from cnncodes.precision import reference_photos
from cnncodes.runtime import FrozenNetwork
from cnncodes.settings import Settings, build_network

LIMIT = "images that the memory of the device holds"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Make the device run out of memory for larger batches than ``memory[LIMIT]``."""
    held = {LIMIT: 1000}
    plain = cnncodes.forward.Forward.forward

    def forward(self: cnncodes.forward.Forward, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(batch) > held[LIMIT]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch)

    monkeypatch.setattr(cnncodes.forward.Forward, "forward", forward)
    return held


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


def test_one_image_that_the_memory_does_not_hold_is_an_error(memory: dict[str, int]) -> None:
    memory[LIMIT] = 0
    with pytest.raises(BackboneError, match="does not hold one image of 224 pixels"):
        build_network(settings())


def test_all_devices_are_used_and_give_the_same_codes(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(small_sample, tmp_path / "one.h5", layers=["layer3"], workers=1)
    monkeypatch.setattr(cnncodes.runtime, "devices_of", lambda device: [device, device])
    used: Counter[int] = Counter()
    plain = FrozenNetwork._batch

    def counted(self: FrozenNetwork, pixels: torch.Tensor, size: int, replica: int) -> dict[str, np.ndarray]:
        used[id(self._forwards[replica])] += 1
        return plain(self, pixels, size, replica)

    network = build_network(Settings(layers="layer3"))
    network.warm_up()
    assert len({id(forward) for forward in network._forwards}) == 2
    monkeypatch.setattr(FrozenNetwork, "_batch", counted)
    for replica in range(4):
        network(reference_photos(network.backbone.preprocessing), replica)
    assert list(used.values()) == [2, 2]
    extract(small_sample, tmp_path / "two.h5", layers=["layer3"], workers=4)
    np.testing.assert_array_equal(load_codes(tmp_path / "two.h5", "layer3"), load_codes(tmp_path / "one.h5", "layer3"))


def test_new_images_are_not_worth_a_compilation(
    sample_codes: Path, small_sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CodesFile.open(sample_codes) as file:
        description = {**file.description, "runtime": {**file.description["runtime"], "compiled": True}}
    monkeypatch.setattr(FrozenNetwork, "_compile", lambda self: pytest.fail("compiled"))
    computed = compute_codes(load_images(small_sample / "test"), description)
    np.testing.assert_array_equal(computed.codes["layer3"], load_codes(sample_codes, "layer3", split="test"))


def test_a_description_that_lacks_a_setting_is_refused(sample_codes: Path, small_sample: Path) -> None:
    with CodesFile.open(sample_codes) as file:
        description = {name: value for name, value in file.description.items() if name != "dtype"}
    with pytest.raises(MismatchError, match=r"lacks 'dtype'.*extract again"):
        compute_codes(load_images(small_sample), description)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_a_gpu_gives_the_codes_of_the_processor(small_sample: Path, precision: str) -> None:
    images = load_images(small_sample)
    expected = in_memory(images, build_network(settings(device="cpu"))).codes["penultimate"]
    network = build_network(Settings(layers="penultimate", precision=precision, device="cuda"))
    codes = in_memory(images, network).codes["penultimate"].astype(np.float32)
    cosines = (codes * expected).sum(1) / np.linalg.norm(codes, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.998


@pytest.mark.gpu
def test_a_batch_too_large_for_a_gpu_is_halved() -> None:
    memory = torch.cuda.get_device_properties(0).total_memory
    network = build_network(settings(device="cuda", batch_size=2 ** int(np.log2(memory / 2**20))))
    assert "too many" in network.notes[0]
    network(reference_photos(network.backbone.preprocessing))


@pytest.mark.gpu
@pytest.mark.slow
def test_a_compiled_network_on_a_gpu_gives_the_same_codes(small_sample: Path) -> None:
    images = load_images(small_sample)
    plain, compiled = (
        in_memory(images, build_network(Settings(layers="penultimate", device="cuda", compile=compile)))
        for compile in (False, True)
    )
    a, b = (found.codes["penultimate"].astype(np.float32) for found in (plain, compiled))
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() >= 0.9995
