"""A network returns feature maps beside its codes, and nothing else about it changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_network import images, own
from torch import nn

from cnncodes.errors import BackboneError, SettingError
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.tuning import tuned_network


def build_stages() -> nn.Module:
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))


class Windows(nn.Module):
    """Gives a map with the channels last, and a sequence of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.tokens, self.head = (
            nn.Conv2d(3, 6, 4, 4),
            nn.Linear(6, 6),
            nn.Linear(6, 7),
            nn.Linear(7, 2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.conv(x).permute(0, 2, 3, 1))
        return self.head(self.tokens(x.flatten(1, 2)).mean(1))


PIXELS = ((images(n=5).clamp(-1, 1) + 1) * 127.5).to(torch.uint8)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_maps_are_what_the_layers_give(compiled: bool) -> None:
    backbone, settings = own(build_stages), {"batch_size": 2, "compiled": compiled, "precision": "fp32"}
    plain = tuned_network(backbone, ["1", "penultimate"], **settings)
    network = tuned_network(backbone, ["1", "penultimate"], maps=["2", "1"], **settings)
    assert network.plan.maps == {"2": (12, 4, 4), "1": (8, 8, 8)}
    assert replace(network.plan, maps={}, computed=plain.plan.computed) == plain.plan
    network.warm_up()
    outputs, codes = network(PIXELS), plain(PIXELS)
    assert list(outputs) == ["1", "penultimate", "maps/2", "maps/1"]
    for name, values in codes.items():
        np.testing.assert_array_equal(outputs[name], values)
    x = backbone.preprocessing.normalise(PIXELS)
    for i, module in enumerate(backbone.module):
        x = module(x)
        if i in (1, 2):
            maps = outputs[f"maps/{i}"]
            assert (maps.dtype, maps.flags.c_contiguous) == (np.float16, True)
            np.testing.assert_allclose(maps, x.half().numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", pytest.param("bf16-compiled", marks=pytest.mark.slow)])
def test_maps_of_a_lower_precision_are_kept_in_float16(precision: str) -> None:
    settings = {"batch_size": 2, "precision": precision[:4], "compiled": precision.endswith("compiled")}
    network = tuned_network(own(build_stages), ["penultimate"], maps=["1"], **settings)
    network.warm_up()
    exact = tuned_network(own(build_stages), ["penultimate"], maps=["1"], precision="fp32")
    assert network.notes == []
    maps = network(PIXELS)["maps/1"]
    assert maps.dtype == np.float16
    np.testing.assert_allclose(maps, exact(PIXELS)["maps/1"], atol=0.05)


def test_views_have_an_axis_of_their_own() -> None:
    network = tuned_network(own(build_stages), ["penultimate"], maps=["1"], batch_size=4)
    pair = network(torch.stack([PIXELS, PIXELS.flip(-1)], 1))["maps/1"]
    assert pair.shape == (5, 2, 8, 8, 8)
    np.testing.assert_array_equal(pair[:, 0], network(PIXELS)["maps/1"])
    np.testing.assert_array_equal(pair[:, 1], network(PIXELS.flip(-1))["maps/1"])


def test_a_network_can_be_restricted_to_its_maps() -> None:
    network = tuned_network(own(build_stages), ["penultimate"], maps=["1"], batch_size=4)
    less = network.restricted(["maps/1"])
    assert not any(isinstance(module, nn.Linear) for module in less.extractor.modules())
    np.testing.assert_array_equal(less(PIXELS)["maps/1"], network(PIXELS)["maps/1"])


def test_channels_come_first_and_tokens_stay_tokens() -> None:
    backbone = own(Windows)
    network = tuned_network(backbone, ["penultimate"], maps=["last", "tokens"], batch_size=4, precision="fp32")
    assert network.plan.maps == {"last": (6, 8, 8), "tokens": (64, 7)}
    module, maps = backbone.module, network(PIXELS)
    last = module.last(module.conv(backbone.preprocessing.normalise(PIXELS)).permute(0, 2, 3, 1))
    np.testing.assert_allclose(maps["maps/last"], last.permute(0, 3, 1, 2).numpy(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(maps["maps/tokens"], module.tokens(last.flatten(1, 2)).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        (["9"], BackboneError, "no layer '9'"),
        (["penultimate"], SettingError, "penultimate of own gives a vector, not a map"),
        (["penultimate", "6:input"], SettingError, "the maps of 6:input are those of penultimate"),
    ],
)
def test_what_gives_no_maps_is_refused(maps: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tuned_network(own(build_stages), ["penultimate"], maps=maps)


def test_maps_that_are_too_large_are_refused() -> None:
    def huge() -> nn.Module:
        network = build_stages()
        nn.init.constant_(network[0].weight, 1e5)
        return network

    with pytest.raises(SettingError, match="float16 does not hold the maps of 1 of own"):
        tuned_network(own(huge), ["penultimate"], maps=["1"], dtype="float32")


def test_the_description_names_maps_only_where_there_are_some() -> None:
    backbone = own(build_stages)
    assert "maps" not in tuned_network(backbone, ["penultimate"]).describe()
    assert tuned_network(backbone, ["penultimate"], maps=["1"]).describe()["maps"] == {"1": [8, 8, 8]}
    assert isinstance(tuned_network(backbone, ["penultimate"], maps=["1"]), FrozenNetwork)
