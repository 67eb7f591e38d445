"""One pass of noise: lengths of codes, layers that hold the same, and the largest map."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_network import Tiny, own
from torch import fx, nn

import cnncodes.runtime.first_pass
from cnncodes.errors import DeviceError
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.runtime.first_pass import FirstPass, first_pass, measure_backbone
from cnncodes.runtime.plan import Plan

PLAIN = Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 2, stride=2)
        self.deep = nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.conv(x).relu()
        deep = self.deep(maps)
        mean = deep.mean((2, 3))
        return {"conv": maps, "deep": deep, "same": deep * 1, "mean": mean, "twice": 2 * mean}


def run(network: nn.Module, pooling: str = "avg") -> FirstPass:
    return first_pass(network.eval(), PLAIN, pooling, torch.device("cpu"))


def test_what_a_pass_tells() -> None:
    first = run(fx.symbolic_trace(Net()))
    assert first.layers["conv"] == {"n_features": 4, "pooling": "avg", "map_shape": [4, 16, 16]}
    assert first.layers["mean"] == {"n_features": 6, "pooling": "avg", "map_shape": [6]}
    assert first.links == {"deep": "mean", "same": "mean"}  # to the deepest one
    assert first.largest_map == 3 * 32 * 32  # the image


def test_layers_that_are_pooled_otherwise_are_no_links() -> None:
    first = run(fx.symbolic_trace(Net()), "max")
    assert first.links == {"deep": "same"}
    assert run(fx.symbolic_trace(Net()), "flatten").layers["deep"]["n_features"] == 6 * 8 * 8


def test_the_maps_of_a_network_that_is_not_traced_are_unknown() -> None:
    assert run(Net()).largest_map == 0


@pytest.mark.parametrize("factor", [1 + 1e-6, 1 + 1e-3])
def test_layers_are_linked_if_they_differ_by_rounding_only(factor: float) -> None:
    class Scaled(Net):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            maps = self.conv(x)
            return {"a": maps, "b": maps * factor}

    assert run(Scaled()).links == ({"a": "b"} if factor < 1 + 1e-5 else {})


def test_a_backbone_is_measured_on_the_device_of_the_plan_and_stays_where_it_is() -> None:
    backbone = own(Tiny)
    plan = Plan((torch.device("cpu"),), ("conv", "penultimate"), "avg", 1)
    assert measure_backbone(backbone, plan).layers["penultimate"]["n_features"] == 6
    with pytest.raises(RuntimeError, match="meta"):  # a device without data: what runs there is a copy
        measure_backbone(backbone, replace(plan, devices=(torch.device("meta"),)))
    assert {parameter.device.type for parameter in backbone.module.parameters()} == {"cpu"}


def test_too_little_memory_for_the_first_pass_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cnncodes.runtime.first_pass, "first_pass", fail)
    with pytest.raises(DeviceError, match="does not hold one image of 32 pixels"):
        measure_backbone(own(Tiny), Plan((torch.device("cpu"),), ("penultimate",), "avg", 1))
