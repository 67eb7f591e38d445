"""A network cut after the deepest wanted layer, traced or with hooks, against the plain network."""

from __future__ import annotations

import copy
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812
from torchvision import models

from cnncodes.errors import SettingError
from cnncodes.networks.backbone import Backbone, load_backbone, register_backbone
from cnncodes.networks.preprocessing import Preprocessing

PLAIN = Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Branches(nn.Module):
    """Its way depends on the numbers, it works in place by functions, and it uses a module twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.relu = nn.ReLU(inplace=True)
        self.body = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        if x.sum() > 1e9:
            return x
        x = self.relu(x)
        x = self.body(x)
        x.sub_(0.1)
        x = self.relu(x)
        return self.head(self.drop(x).mean(dim=(2, 3)))


class Straight(nn.Module):
    """Traceable; in-place by a function and by a method, which may overwrite what is kept."""

    def __init__(self, method: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.method = method
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x = x.relu_() if self.method else F.relu(x, True)
        return self.head(x.mean(dim=(2, 3)))


def own(builder: object, name: str = "own") -> Backbone:
    register_backbone(name, builder, preprocessing=PLAIN, overwrite=True)  # type: ignore[arg-type]
    return load_backbone(name)


def images(size: int = 32, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("alexnet", "features.0"),
        ("vgg11", "features.0"),
        ("vgg11_bn", "features.1"),
        ("resnet18", "layer1.0.bn1"),
        ("densenet121", "features.norm0"),
        ("densenet121", "features.norm5"),
        ("googlenet", "inception3a.branch1.bn"),
        ("inception_v3", "Mixed_5b.branch1x1.bn"),
    ],
)
def test_in_place_activations_do_not_overwrite_a_kept_layer(name: str, layer: str) -> None:
    with pytest.MonkeyPatch.context() as patch:  # initialising 130 million parameters is not what is tested
        patch.setattr(nn.init, "trunc_normal_", lambda tensor, *args, **kwargs: tensor.data.normal_(0, 0.02))
        patch.setattr(nn.init, "normal_", lambda tensor, *args, **kwargs: tensor.data.fill_(0.01))
        patch.setattr("cnncodes.networks.backbone.digest_of", lambda state: "")
        backbone = load_backbone(name, "random")
    x = images(80, 1)
    with torch.inference_mode():
        alone = backbone.extractor([layer])(x)[layer]
        together = backbone.extractor([layer, "penultimate"])(x)[layer]
    assert (alone < 0).any()  # a ReLU written over it would show
    assert torch.equal(alone, together)


def test_traced_and_hooked_extractors_give_the_same() -> None:
    from cnncodes.networks.extractor import _HookExtractor

    backbone = load_backbone("mobilenet_v2")
    layers = ["features.4.conv.1", *backbone.default_layers]
    traced = backbone.extractor(layers)
    assert isinstance(traced, fx.GraphModule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnncodes.networks.extractor._trace", lambda network: None)
        hooked = backbone.extractor(layers)
    assert isinstance(hooked, _HookExtractor)
    with torch.inference_mode():
        expected, found = traced(images(64)), hooked(images(64))
    assert list(found) == list(expected) == layers
    assert all(torch.equal(found[layer], expected[layer]) for layer in layers)


@pytest.mark.parametrize("method", [False, True])
def test_in_place_functions_do_not_overwrite_a_kept_layer(method: bool) -> None:
    backbone = own(lambda: Straight(method))
    extractor = backbone.extractor(["conv", "penultimate"])
    assert isinstance(extractor, fx.GraphModule) is not method  # a method in place is left to the hooks
    with torch.inference_mode():
        maps = extractor(images())
    torch.testing.assert_close(maps["conv"], backbone.module.conv(images()))
    torch.testing.assert_close(maps["penultimate"], backbone.module.conv(images()).relu().mean(dim=(2, 3)))


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
    register_backbone("keeping", lambda: copy.deepcopy(network), preprocessing=PLAIN)
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


def test_a_network_that_makes_tensors_as_it_runs_or_is_compiled_in_part_runs_with_hooks() -> None:
    class Making(Straight):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((self.conv(x) * torch.full((1,), 3.0)).mean(dim=(2, 3)))

    backbone = own(lambda: Making(True))
    with torch.inference_mode():
        expected = backbone.module.conv(images()).mul(3).mean(dim=(2, 3))
        torch.testing.assert_close(backbone.extractor(["penultimate"])(images())["penultimate"], expected)


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
            found = backbone.module(x), other(x), mine(x)["penultimate"]
            assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))

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


def test_a_network_that_cannot_be_traced_runs_with_hooks() -> None:
    backbone = own(Branches)
    extractor = backbone.extractor(["stem", "relu", "body", "penultimate"])
    assert not isinstance(extractor, fx.GraphModule)
    with torch.inference_mode():
        maps = extractor(images())
        stem = F.conv2d(images(), backbone.module.stem.weight, backbone.module.stem.bias, stride=4)
        body = F.conv2d(stem.relu(), backbone.module.body.weight, backbone.module.body.bias, stride=2, padding=1)
    torch.testing.assert_close(maps["stem"], stem)
    torch.testing.assert_close(maps["body"], body)
    torch.testing.assert_close(maps["relu"], (body - 0.1).relu())  # of its last call
    torch.testing.assert_close(maps["penultimate"], (body - 0.1).relu().mean(dim=(2, 3)))


def test_a_network_with_hooks_tells_the_images_of_several_threads_apart() -> None:
    extractor = own(Branches).extractor(["stem", "penultimate"])
    batches = [torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(200)]

    def run(x: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return extractor(x)

    expected = [run(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, batches))
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("builder", [Branches, lambda: Straight(False)])
def test_nothing_after_the_deepest_layer_is_computed(builder: object) -> None:
    backbone = own(builder)
    called = []
    for path, module in backbone.module.named_modules():
        if path:
            module.register_forward_hook(lambda *args, path=path: called.append(path))
    first = "stem" if builder is Branches else "conv"
    with torch.inference_mode():
        assert list(backbone.extractor([first])(images())) == [first]
        assert called == [first]
        backbone.extractor([first, "penultimate"])(images())
    assert "head" not in called


def test_only_what_a_stage_needs_is_computed_in_a_real_network() -> None:
    backbone = load_backbone("vit_b_32", "random")
    calls = {3: 0, 4: 0}
    for i in calls:
        block = backbone.module.get_submodule(f"encoder.layers.encoder_layer_{i}.ln_1")
        block.register_forward_hook(lambda *args, i=i: calls.__setitem__(i, calls[i] + 1))
    with torch.inference_mode():
        tokens = backbone.extractor(["encoder.layers.encoder_layer_3"])(images(224, 1))
    assert tokens["encoder.layers.encoder_layer_3"].shape == (1, 50, 768)
    assert calls == {3: 1, 4: 0}


@pytest.mark.parametrize("builder", [Branches, models.alexnet])
def test_the_extractor_stays_in_eval_mode(builder: object) -> None:
    backbone = own(builder) if builder is Branches else load_backbone("alexnet", "random")
    extractor = backbone.extractor(["penultimate"])
    x = images(backbone.native_size)
    with torch.inference_mode():
        expected = extractor(x)["penultimate"]
        for frozen in (extractor.train(), copy.deepcopy(extractor).train()):
            assert not any(module.training for module in frozen.modules())
            assert torch.equal(frozen(x)["penultimate"], expected)
        backbone.module.train()  # dropout is on in the network itself, but not in what the extractor runs
        assert torch.equal(backbone.extractor(["penultimate"])(x)["penultimate"], expected)


def test_the_same_node_under_several_names() -> None:
    backbone = load_backbone("mobilenet_v2")
    with torch.inference_mode():
        maps = backbone.extractor(["layer3", "features.13", "classifier.1:input", "penultimate"])(images(64))
    assert torch.equal(maps["layer3"], maps["features.13"])
    assert torch.equal(maps["penultimate"], maps["classifier.1:input"])


def test_no_layer_is_an_error() -> None:
    with pytest.raises(SettingError, match="no layer asked for; mobilenet_v2 has layer1"):
        load_backbone("mobilenet_v2").extractor([])
