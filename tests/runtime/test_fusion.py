"""Convolutions that do what follows them give the numbers that each operation by itself gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

import cnncodes.runtime.frozen_network
import cnncodes.runtime.tuning
from cnncodes.errors import MismatchError
from cnncodes.extraction.extract import extract
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.runtime.fusion import ACTIVATIONS, _FusedConvolution, can_be_fused, fused
from cnncodes.runtime.precision import lowered, reference_photos

RELU6 = nn.ReLU6()
ONE = fx.symbolic_trace(nn.Sequential(nn.Conv2d(1, 1, 1)))
TYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_be_fused(ONE, torch.device("cpu"), dtype)]
pytestmark = pytest.mark.skipif(not TYPES, reason="oneDNN has no such convolutions here")


class Net(nn.Module):
    """Two convolutions, and what `after` makes of the maps of the second, of the first, and of the input."""

    def __init__(self, after: Callable[..., torch.Tensor], **second: int | str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 16, 3, **{"padding": 1, **second})
        self.relu, self.relu6, self.after = nn.ReLU(), RELU6, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.relu(self.first(x))
        return self.after(self.second(first), first, x)


def compare(
    network: nn.Module, dtype: torch.dtype = torch.float32, leading: int = 0, side: int = 14
) -> list[_FusedConvolution]:
    """Assert that both give the same numbers, and return the convolutions of the fused one."""
    traced = fx.symbolic_trace(network.eval())
    before = copy.deepcopy(traced)
    low = lowered(traced, dtype, leading) if dtype != torch.float32 else traced
    other = fused(low)
    x = torch.randn(4, 8, side, side, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        expected, output = low(x).float(), other(x).float()
        assert torch.equal(low(x).float(), expected), "the network was changed"
        assert torch.equal(other(x).float(), output), "the second pass differs from the first"
    tolerance = 1e-6 if dtype == torch.float32 else 0.02
    assert (output - expected).abs().max() <= tolerance * expected.abs().max()
    for one, two in zip(traced.parameters(), before.parameters(), strict=True):
        assert torch.equal(one, two)
    convolutions = [module for module in other.modules() if isinstance(module, _FusedConvolution)]
    assert len(convolutions) + sum(type(module) is nn.Conv2d for module in other.modules()) == 2, "one runs twice"
    return convolutions


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", [kind for kind in ACTIVATIONS if isinstance(kind, type)])
def test_activations_are_fused(kind: type[nn.Module], dtype: torch.dtype) -> None:
    activation = kind()
    network = Net(lambda maps, first, x: network.activation(maps))
    network.activation = activation
    first, second = compare(network, dtype)
    assert (first.activation, second.activation) == ("relu", ACTIVATIONS[kind][0])


@pytest.mark.parametrize("function", [nn.functional.relu, torch.relu])
def test_functions_are_fused(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert compare(Net(lambda maps, first, x: function(maps)))[1].activation == "relu"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("leading", [0, 1])
def test_shortcuts_are_fused(dtype: torch.dtype, leading: int) -> None:
    after = [
        (lambda maps, first, x: maps + first, "none"),
        (lambda maps, first, x: first + maps, "none"),
        (lambda maps, first, x: torch.add(maps, first).relu(), "none"),
        (lambda maps, first, x: torch.relu(maps + first), "relu"),
        (lambda maps, first, x: nn.functional.silu(maps + first), "none"),
        (lambda maps, first, x: RELU6(maps + first), "none"),  # that oneDNN adds before it is not known to torch
    ]
    for function, activation in after:
        second = compare(Net(function), dtype, leading)[1]
        assert second.activation == activation


@pytest.mark.parametrize(
    "after",
    [
        lambda maps, first, x: maps + first.mean(dim=(2, 3), keepdim=True),  # another shape
        lambda maps, first, x: torch.relu(maps + first[:1]),
        lambda maps, first, x: torch.relu(maps + first.double()),  # another type
        lambda maps, first, x: torch.add(maps, first, alpha=2),
        lambda maps, first, x: maps + 1,
        lambda maps, first, x: torch.relu(maps + x.shape[1]),
        lambda maps, first, x: maps + x.size(2) / 3,
        lambda maps, first, x: maps + maps,
        lambda maps, first, x: torch.relu(maps) + maps,
        lambda maps, first, x: torch.relu(maps + first) - (maps + first),
        lambda maps, first, x: maps + torch.relu(first * 2 + x.mean()),
        lambda maps, first, x: torch.relu(maps.mean() + maps),
    ],
)
def test_what_cannot_be_fused_is_left_as_it_is(after: Callable[..., torch.Tensor]) -> None:
    for dtype in TYPES:
        assert len(compare(Net(after), dtype)) == 2


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("second", [{}, {"groups": 16}, {"groups": 4}])
def test_shortcuts_are_added_to_maps_of_all_sizes(second: dict[str, int], dtype: torch.dtype) -> None:
    for function in (lambda maps, first, x: torch.relu(maps + first), lambda maps, first, x: maps + first):
        for side in (1, 2, 5):
            compare(Net(function, **second), dtype, side=side)


@pytest.mark.parametrize("dtype", TYPES)
def test_shortcuts_are_added_to_maps_of_one_channel(dtype: torch.dtype) -> None:
    network = Net(lambda maps, first, x: torch.relu(maps + x[:, :1]))
    network.second = nn.Conv2d(16, 1, 1)
    compare(network, dtype)


@pytest.mark.parametrize("hooked", ["second", "relu6"])
def test_modules_with_hooks_are_left_alone(hooked: str) -> None:
    network = Net(lambda maps, first, x: network.relu6(maps))
    network.relu6 = nn.ReLU6()
    getattr(network, hooked).register_forward_hook(lambda module, args, output: output * 2)
    first, *others = compare(network)
    assert first.activation == "relu"
    assert [one.activation for one in others] == ([] if hooked == "second" else ["none"])


def test_a_convolution_in_another_type_is_left_alone() -> None:
    network = Net(lambda maps, first, x: maps.float())
    network.second.double()
    network.relu = type("Double", (nn.ReLU,), {"forward": lambda self, x: torch.relu(x).double()})()
    assert len(compare(network)) == 1


def test_a_shortcut_larger_than_the_maps_is_added_to_each_of_them() -> None:
    compare(Net(lambda maps, first, x: torch.relu(maps + first), stride=14))


@pytest.mark.parametrize(
    "second",
    [{"groups": 16}, {"dilation": 2, "padding": 2}, {"stride": 2}, {"padding": 0}, {"bias": False}, {"groups": 4}],
)
def test_convolutions_of_all_kinds_are_fused(second: dict[str, int]) -> None:
    for dtype in TYPES:
        assert len(compare(Net(lambda maps, first, x: torch.relu(maps), **second), dtype)) == 2


@pytest.mark.parametrize("second", [{"padding_mode": "reflect"}, {"padding": "same"}])
def test_convolutions_that_pad_otherwise_are_left_alone(second: dict[str, str]) -> None:
    assert len(compare(Net(lambda maps, first, x: torch.relu(maps), **second))) == 1


def test_a_layer_that_is_wanted_is_not_fused_away() -> None:
    taps = build_network(
        Settings(layers=["features.3.conv.1", "features.3.conv.0", "features.2"], precision="fp32", dtype="float32")
    )
    assert taps.plan.fused
    photos = reference_photos(taps.backbone.preprocessing)
    with torch.inference_mode():
        expected = taps._unfused(photos)
    for name, codes in taps(photos).items():
        assert np.abs(codes - expected[name].numpy()).max() <= 1e-5 * np.abs(codes).max()


def test_a_file_from_another_machine_is_refused_with_words_that_help(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(small_sample, tmp_path / "codes.h5", layers=["layer1"])
    monkeypatch.setattr(cnncodes.runtime.frozen_network, "can_be_fused", lambda *args: False)
    with pytest.raises(MismatchError, match=r"runtime.fused is True, asked False.* another kind of machine: choose"):
        extract(small_sample, tmp_path / "codes.h5", layers=["layer2"])
    monkeypatch.undo()
    with pytest.raises(MismatchError, match=r"asked .* Ask for the same, choose"):
        extract(small_sample, tmp_path / "codes.h5", layers=["layer1"], image_size=96)
