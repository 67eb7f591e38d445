"""What is chosen for a network: precision, types of codes, batch size, and whether to compile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_crops import cosines

import cnncodes.runtime.forward
import cnncodes.runtime.frozen_network
import cnncodes.runtime.tuning
from cnncodes import extract
from cnncodes.codes.file import CodesFile
from cnncodes.errors import SettingError
from cnncodes.extraction.in_memory import in_memory
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.images.loading import load_images
from cnncodes.runtime.first_pass import FirstPass
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.fusion import _FusedConvolution
from cnncodes.runtime.plan import Plan
from cnncodes.runtime.tuning import choose_dtypes

FULL = {"precision": "fp32", "dtype": "float32"}


def test_bfloat16_needs_the_first_layers_in_float32(crops: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_images(crops)
    wanted = in_memory(images, build_network(Settings(layers="penultimate", **FULL))).codes["penultimate"]
    network = build_network(Settings(layers="penultimate", precision="bf16"))
    assert network.plan.leading == 2
    kept = cosines(in_memory(images, network).codes["penultimate"], wanted).min()
    network.apply(replace(network.plan, leading=0))
    assert cosines(in_memory(images, network).codes["penultimate"], wanted).min() < kept - 0.001
    monkeypatch.setattr(cnncodes.runtime.tuning, "LEADING", (0,))
    monkeypatch.setattr(cnncodes.runtime.tuning, "has_fast_bf16", lambda device: True)
    auto = build_network(Settings(layers="penultimate"))
    assert auto.plan.precision == "fp32"
    assert "the codes in bf16 agree with float32 to cosine 0.99" in auto.notes[0]
    forced = build_network(Settings(layers="penultimate", precision="bf16"))
    assert (forced.plan.precision, len(forced.notes)) == ("bf16", 1)


def test_fewer_first_layers_in_float32_than_a_file_records_are_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []
    apply = FrozenNetwork.apply

    def noted(self: FrozenNetwork, plan: Plan) -> None:
        if plan.precision == "bf16":
            tried.append(plan.leading)
        apply(self, plan)

    monkeypatch.setattr(FrozenNetwork, "apply", noted)
    for leading, expected in ((None, {0, 2}), (0, {0, 2}), (2, {2}), (4, {5}), (99, {8})):
        tried.clear()
        network = build_network(Settings(layers="penultimate", precision="bf16", leading=leading))
        assert (set(tried), network.plan.leading) == (expected, max(expected))


def test_precision_does_not_depend_on_the_layers_that_are_wanted() -> None:
    described = [build_network(Settings(layers=layers, precision="bf16")).describe() for layers in ("layer1", "layer4")]
    assert described[0]["runtime"] == described[1]["runtime"]
    assert described[0]["runtime"]["leading_float32"] == 2


def test_no_such_type_of_codes() -> None:
    with pytest.raises(SettingError, match=r"no type of codes 'float61'\. Did you mean 'float16'"):
        build_network(Settings(dtype="float61"))


def test_codes_that_change_when_fused_are_computed_unfused(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = extract(small_sample, tmp_path / "a.h5", layers=["layer1"], precision="fp32")

    class Wrong(_FusedConvolution):
        def forward(self, *args: torch.Tensor) -> torch.Tensor:
            return super().forward(*args) + 0.5

    monkeypatch.setattr("cnncodes.runtime.fusion._FusedConvolution", Wrong)
    done = extract(small_sample, tmp_path / "b.h5", layers=["layer1"], precision="fp32")
    assert any("convolutions run by themselves" in note for note in done.notes)
    assert not plain.notes
    with CodesFile.open(tmp_path / "a.h5") as right, CodesFile.open(tmp_path / "b.h5") as unfused:
        assert [file.provenance.runtime.fused for file in (right, unfused)] == [True, False]
        assert np.allclose(right.codes("layer1"), unfused.codes("layer1"), rtol=1e-3, atol=1e-3)


def test_where_fused_operations_fail_it_runs_unfused(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(_FusedConvolution):
        def forward(self, *args: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("could not create a memory")

    plain = build_network(Settings(layers=["layer1"]))
    monkeypatch.setattr("cnncodes.runtime.fusion._FusedConvolution", Failing)
    for precision in ("auto", "fp32"):
        network = build_network(Settings(layers=["layer1"], precision=precision))
        assert not network.plan.fused
        assert network.plan.precision == ("fp32" if precision == "fp32" else plain.plan.precision)
        assert "convolutions run by themselves" in network.notes[0]
    done = extract(small_sample, tmp_path / "codes.h5", layers=["layer1"])
    assert done.ok == done.n


def test_batches_are_smaller_where_maps_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {
        size: build_network(Settings(layers=["layer1"], precision="fp32", image_size=size)).batch_size
        for size in (32, 224, 448)
    }
    assert sizes == {32: 8, 224: 4, 448: 1}
    assert build_network(Settings(layers=["layer1"], precision="fp32", image_size=448, batch_size=8)).batch_size == 8
    monkeypatch.setattr(cnncodes.runtime.tuning, "LARGEST_MAP", 1)
    assert build_network(Settings(layers=["layer1"], precision="fp32", image_size=32)).batch_size == 1


def test_types_of_codes_follow_their_range() -> None:
    layers = {
        name: {"n_features": 2, "pooling": "avg", "map_shape": [2, 1, 1]} for name in ("small", "large", "linked")
    }
    first = FirstPass(layers, {"linked": "large"}, 0)
    reference = {"small": np.array([[0.5, 1.0]], np.float32), "large": np.array([[1.0, 60000.0]], np.float32)}
    chosen, notes = choose_dtypes(first, "auto", reference)
    assert {name: layer["dtype"] for name, layer in chosen.items()} == {
        "small": "float16",
        "large": "float32",
        "linked": "float32",
    }
    assert [note.split()[3] for note in notes] == ["large", "linked"]
    for dtype in ("float16", "float32"):
        chosen, notes = choose_dtypes(first, dtype, reference)
        assert {layer["dtype"] for layer in chosen.values()} == {dtype}
        assert notes == []
    assert "dtype" not in layers["small"], "the caller's layers were changed"
