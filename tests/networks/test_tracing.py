"""Networks traced into graphs: what is recorded, and what other threads see of it."""

from __future__ import annotations

import copy
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from tiny_network import UNCROPPED, Straight, images, own
from torch import fx, nn

from cnncodes.networks.cut import cut_before
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.registry import register_backbone


def test_a_network_that_keeps_what_it_computes_can_be_traced_again() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias, self.kept = nn.Parameter(torch.randn(3)), {}
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if "bias" not in self.kept:
                self.kept["bias"] = self.bias * 2
            return self.head(x.mean(dim=(2, 3)) + self.kept["bias"])

    network = Keeping().eval()
    register_backbone("keeping", lambda: copy.deepcopy(network), preprocessing=UNCROPPED)
    backbone, x = load_backbone("keeping"), torch.randn(2, 3, 32, 32)
    for _ in range(2):
        extractor = backbone.extractor(["penultimate"])
        assert isinstance(extractor, fx.GraphModule)
        with torch.inference_mode():
            assert torch.equal(extractor(x)["penultimate"], x.mean(dim=(2, 3)) + network.bias * 2)


def scaled(x: torch.Tensor) -> torch.Tensor:
    return x * (2 if isinstance(x, torch.Tensor) else 1 / 0)


fx.wrap("scaled")


def through_a_helper(x: torch.Tensor) -> torch.Tensor:
    return scaled(x) * math.sqrt(x.shape[1])


class Wrapping(Straight):
    """Calls what is recorded and not looked into, and a function of numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(through_a_helper(scaled(self.conv(x))).mean(dim=(2, 3)))


def test_functions_that_are_not_looked_into_are_recorded() -> None:
    backbone = own(lambda: Wrapping(True))
    extractor = backbone.extractor(["penultimate"])
    assert isinstance(extractor, fx.GraphModule)
    assert [node.target for node in extractor.graph.nodes if node.target in (scaled, math.sqrt)] == [
        scaled,
        scaled,
        math.sqrt,
    ]
    with torch.inference_mode():
        expected = backbone.module.conv(images()).mul(4 * math.sqrt(8)).mean(dim=(2, 3))
        torch.testing.assert_close(extractor(images())["penultimate"], expected)


class Making(Straight):
    """Makes a tensor of its own each time it runs, as transformers do with rotary positions and masks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((self.conv(x) * torch.full((1,), 3.0)).mean(dim=(2, 3)))


def test_tensors_that_a_network_makes_as_it_runs_belong_to_the_graph() -> None:
    """The graph has them, the network stays without; parameters are shared; a cut has them as well."""
    backbone = own(lambda: Making(True))
    extractor = backbone.extractor(["penultimate"])
    assert isinstance(extractor, fx.GraphModule)
    assert [name for name, _ in extractor.named_buffers()] == ["_tensor_constant0"]
    assert not hasattr(backbone.module, "_tensor_constant0")
    assert extractor.conv.weight is backbone.module.conv.weight
    with torch.inference_mode():
        maps = backbone.module.conv(images())
        torch.testing.assert_close(extractor(images())["penultimate"], maps.mul(3).mean(dim=(2, 3)))
        torch.testing.assert_close(cut_before(backbone, "head").top(torch.ones(1, 8)), torch.ones(1, 8))
        torch.testing.assert_close(cut_before(backbone, "all").top(images()), maps.mul(3).mean(dim=(2, 3)))


def test_other_threads_run_networks_while_some_are_traced() -> None:
    """The same network, other ones, and the tracing of somebody else; and torch is what it was."""
    before = nn.Module.__call__, nn.Module.__getattr__, vars(math).copy()
    backbone, other = own(lambda: Wrapping(True)), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    mine, x = backbone.extractor(["penultimate"]), images()
    graph = str(backbone.extractor(["conv", "penultimate"]).graph)
    traced = threading.Event()

    @torch.inference_mode()
    def run() -> None:
        expected = backbone.module(x), other(x), mine(x)["penultimate"]
        while not traced.is_set():
            outputs = backbone.module(x), other(x), mine(x)["penultimate"]
            assert all(torch.equal(one, two) for one, two in zip(expected, outputs, strict=True))

    def trace() -> None:
        for _ in range(40):
            extractor = backbone.extractor(["conv", "penultimate"])
            assert isinstance(extractor, fx.GraphModule)
            assert str(extractor.graph) == graph

    def trace_elsewhere() -> None:
        for _ in range(40):
            assert [node.target for node in fx.symbolic_trace(other).graph.nodes][1:-1] == ["0", "1"]

    with ThreadPoolExecutor(3) as pool:
        running, *tracing = [pool.submit(work) for work in (run, trace, trace)]
        try:
            for one in tracing:
                one.result()
        finally:
            traced.set()
        running.result()
        for one in [pool.submit(work) for work in (trace, trace, trace_elsewhere)]:
            one.result()
    assert (nn.Module.__call__, nn.Module.__getattr__, vars(math).copy()) == before
