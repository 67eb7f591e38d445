"""Fewer bits, integer resizing, reduced decoding, compiled code: the codes stay what they are in float32."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from photo_crops import cosines, sklearn_photo
from PIL import Image

import cnncodes.extraction.engine
import cnncodes.runtime.frozen_network
import cnncodes.runtime.tuning
from cnncodes import extract, load_codes
from cnncodes.codes.file import CodesFile
from cnncodes.errors import CodesRangeError, MismatchError
from cnncodes.extraction.in_memory import in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.decoding import decode
from cnncodes.images.loading import load_images
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.runtime import precision
from cnncodes.runtime.precision import MIN_COSINE, fits_float16, largest_difference, lowest_cosine, reference_photos
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

FULL = {"precision": "fp32", "dtype": "float32"}
PLAIN = Preprocessing(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def plain_torchvision(crops: list[Path]) -> np.ndarray:
    return codes_by_torchvision(crops)


def codes_by_torchvision(paths: list[Path]) -> np.ndarray:
    """Codes by torchvision alone: its network, its transforms, PIL images, one at a time."""
    weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    model.classifier = torch.nn.Identity()
    model.eval()
    with torch.inference_mode():
        codes = [model(weights.transforms()(Image.open(path).convert("RGB"))[None]) for path in paths]
    return torch.cat(codes).numpy()


@pytest.mark.parametrize("settings", [{"precision": "fp32"}, {"precision": "bf16"}, {}], ids=["fp32", "bf16", "auto"])
def test_every_path_agrees_with_plain_torchvision(
    crops: list[Path], plain_torchvision: np.ndarray, settings: dict
) -> None:
    network = build_network(Settings(layers="penultimate", **settings))
    codes = in_memory(load_images(crops), network).codes["penultimate"]
    least = 0.99995 if network.plan.precision == "fp32" else 0.998
    assert cosines(codes, plain_torchvision).min() >= least


def test_exact_codes_are_those_of_plain_torchvision(
    crops: list[Path], plain_torchvision: np.ndarray, tmp_path: Path
) -> None:
    """Also of large JPEG files, which are decoded at reduced scale without the option."""
    large = [tmp_path / "china.jpg", tmp_path / "flower.jpg"]
    for path in large:
        sklearn_photo(path.name).resize((2000, 1335)).save(path, quality=90)
    expected = np.concatenate([plain_torchvision, codes_by_torchvision(large)])
    differences = []
    for exact in (True, False):
        network = build_network(Settings(layers="penultimate", exact_decode=exact, **FULL))
        codes = in_memory(load_images([*crops, *large]), network).codes["penultimate"]
        differences.append(np.linalg.norm(codes - expected, axis=1) / np.linalg.norm(expected, axis=1))
    assert differences[0].max() < 1e-5
    assert differences[1].max() > 1e-3


def test_large_photographs_are_decoded_at_reduced_scale_and_keep_their_codes() -> None:
    photo = sklearn_photo("china.jpg").resize((4000, 2669), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    photo.save(data, "JPEG", quality=92)
    assert decode(data.getvalue(), enough=PLAIN.enough).shape == (3, 667, 1000)
    assert decode(data.getvalue(), enough=PLAIN.override(mode="squash").enough).shape == (3, 667, 1000)
    assert decode(data.getvalue(), enough=PLAIN.override(exact=True).enough).shape == (3, 2669, 4000)
    data_small = io.BytesIO()
    photo.resize((700, 511)).save(data_small, "JPEG")
    assert decode(data_small.getvalue(), enough=PLAIN.enough).shape == (3, 511, 700)
    squares = [PLAIN.geometry(torch.from_numpy(decode(data.getvalue(), enough=e))) for e in (PLAIN.enough, None)]
    difference = (squares[0].int() - squares[1].int()).abs().float()
    assert 0 < difference.mean() < 1
    network = build_network(Settings(layers="penultimate", **FULL))
    codes = network(torch.stack(squares))["penultimate"]
    assert cosines(codes[:1], codes[1:])[0] >= 0.999


@pytest.mark.parametrize(("gain", "fast"), [(0.53, False), (1.0, False), (2.2, True), (16.0, True)])
def test_a_processor_is_fast_at_bfloat16_only_if_its_products_are(
    gain: float, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(precision, "bf16_gain", lambda: gain)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert precision.has_fast_bf16(cpu) == fast
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not precision.has_fast_bf16(cpu)


def test_the_gain_of_bfloat16_is_that_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes as if a product in float32 took 6 ms, and one in bfloat16 12."""
    clock = [0.0]

    def multiply(a: torch.Tensor, b: torch.Tensor) -> None:
        clock[0] += {torch.float32: 0.006, torch.bfloat16: 0.012}[a.dtype]

    monkeypatch.setattr(torch, "mm", multiply)
    monkeypatch.setattr(precision.time, "thread_time", lambda: clock[0])
    assert precision.bf16_gain.__wrapped__() == pytest.approx(0.5)


def test_reference_photos_are_photographs() -> None:
    photos = reference_photos(PLAIN)
    assert photos.shape == (8, 3, 224, 224)
    assert photos.float().std(dim=(1, 2, 3)).min() > 20
    assert len({photo.numpy().tobytes() for photo in photos}) == 8


def test_lowest_cosine_by_hand() -> None:
    a = {"x": np.array([[1.0, 0.0], [0.0, 0.0]]), "y": np.array([[3.0, 4.0], [1.0, 1.0]])}
    assert lowest_cosine(a, a) == 1.0
    b = {"x": np.array([[2.0, 0.0], [0.0, 0.0]]), "y": np.array([[4.0, 3.0], [1.0, 1.0]])}
    assert lowest_cosine(a, b) == pytest.approx(24 / 25)
    broken = {"x": a["x"], "y": np.full((2, 2), np.nan)}
    assert not lowest_cosine(a, broken) >= MIN_COSINE


def test_largest_difference_by_hand() -> None:
    a = {"x": np.array([[1.0, 0.0], [0.0, 0.0]]), "y": np.array([[3.0, 4.0], [1.0, 1.0]])}
    assert largest_difference(a, a) == 0.0
    b = {"x": np.array([[1.0, 0.25], [0.0, 0.0]]), "y": np.array([[3.0, 4.0], [1.0, 3.0]])}
    assert largest_difference(a, b) == 0.5  # of y; 0.25 of x
    assert largest_difference(a, {name: 2 * codes for name, codes in a.items()}) == 1.0
    assert np.isnan(largest_difference(a, {"x": a["x"], "y": np.full((2, 2), np.nan)}))


# Storage


def test_codes_are_kept_in_float16_where_it_holds_them(small_sample: Path, tmp_path: Path) -> None:
    half, full = tmp_path / "half.h5", tmp_path / "full.h5"
    extract(small_sample, half, layers=["layer3", "penultimate"], precision="fp32")
    extract(small_sample, full, layers=["layer3", "penultimate"], **FULL)
    with CodesFile.open(half) as file:
        assert file.dtype == {"layer3": "float16", "penultimate": "float16"}
        assert file.provenance.dtype == "auto"
    with CodesFile.open(full) as file:
        assert file.dtype == {"layer3": "float32", "penultimate": "float32"}
    for layer in ("layer3", "penultimate"):
        expected = load_codes(full, layer).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(load_codes(half, layer), expected)
    with pytest.raises(MismatchError, match="dtype is 'auto', asked 'float32'"):
        extract(small_sample, half, dtype="float32")
    extract(small_sample, half)  # what was not asked is as the file has it


def test_what_float16_does_not_hold_is_found_out() -> None:
    codes = np.random.default_rng(0).random((8, 100)).astype(np.float32)
    assert fits_float16(codes)
    assert fits_float16(codes * 4000)
    assert not fits_float16(codes * 5000)  # other images may have larger ones
    assert not fits_float16(codes * 1e-6)


def test_codes_too_large_for_float16_are_not_kept_wrong(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codes of the photographs fit, those of the images do not: the file goes over to float32 and is complete."""
    plain = cnncodes.runtime.frozen_network.FrozenNetwork.unrounded
    scale = {"": 1.0}

    def larger(self: cnncodes.runtime.frozen_network.FrozenNetwork, *args: Any) -> dict[str, np.ndarray]:
        return {name: codes * np.float32(scale[""]) for name, codes in plain(self, *args).items()}

    monkeypatch.setattr(cnncodes.runtime.frozen_network.FrozenNetwork, "unrounded", larger)
    build = cnncodes.extraction.engine.build_network

    def build_then_scale(*arguments: Any) -> cnncodes.runtime.frozen_network.FrozenNetwork:
        scale[""] = 1.0
        network = build(*arguments)
        scale[""] = 1e6
        return network

    monkeypatch.setattr(cnncodes.extraction.engine, "build_network", build_then_scale)
    done = extract(small_sample, tmp_path / "codes.h5", layers=["penultimate"], precision="fp32")
    assert done.ok == 45
    assert any("float32" in note for note in done.notes)
    with CodesFile.open(tmp_path / "codes.h5") as file:
        assert file.dtype == {"penultimate": "float32"}
        assert np.isfinite(file.codes("penultimate")).all()
        assert file.codes("penultimate").max() > 1e5
        assert len(file.verify()) == 0


def test_a_writer_refuses_what_its_file_cannot_hold(small_sample: Path, tmp_path: Path) -> None:
    from cnncodes.codes.writer import CodesWriter

    extract(small_sample, tmp_path / "codes.h5", layers=["layer1"])
    with CodesWriter(tmp_path / "codes.h5") as file:
        before = file.codes("layer1", np.array([3]))
        with pytest.raises(CodesRangeError, match="codes of layer1 exceed 65504"):
            file.write(np.array([3]), {"layer1": before * np.float32(1e6)}, file.sha256[[3]])
        np.testing.assert_array_equal(file.codes("layer1", np.array([3])), before)
