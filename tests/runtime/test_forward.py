"""The forward pass as it is run: batch normalisation folded, pixels normalised on the device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.runtime.forward import Forward, channels_last, fold


@pytest.mark.parametrize("kind", ["convolution", "normalisation", "hook", "plain"])
def test_what_is_called_twice_or_hooked_is_not_folded(kind: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
            self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.norm.running_var.fill_(9.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.a(x)))
            x = self.a(x) if kind == "convolution" else self.b(x)
            return self.norm(x) if kind == "normalisation" else self.other(x)

    network = Twice().eval()
    if kind == "hook":
        network.norm.register_forward_hook(lambda module, args, output: output * 2)
    folded, is_folded = fold(torch.fx.symbolic_trace(network))
    x = torch.randn(2, 3, 9, 9)
    with torch.inference_mode():
        assert torch.allclose(folded(x), network(x), atol=1e-5)
    assert is_folded == (kind == "plain")


def test_pixels_are_normalised_before_the_network() -> None:
    class Codes(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"x": x}

    plain = Preprocessing(2, 2, "bilinear", (0.5, 0.25, 0.0), (0.5, 1.0, 2.0))
    forward = Forward(Codes(), plain, "flatten", torch.float32, ["x"])
    pixels = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 2, 2)
    expected = torch.stack([(pixels[:, i] / 255 - plain.mean[i]) / plain.std[i] for i in range(3)], 1)
    torch.testing.assert_close(forward(pixels)["x"], expected.flatten(1))


def test_weights_of_another_rank_stay_when_those_of_maps_are_laid_out() -> None:
    """`Module.to` would refuse the position weights of a lambda network, which have five axes."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(1, 2, (3, 3, 1)))
    before = [tensor.clone() for tensor in network.parameters()]
    assert channels_last(network)[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert network[1].weight.is_contiguous()
    assert all(map(torch.equal, network.parameters(), before))
