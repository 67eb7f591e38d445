"""A network cut after the deepest wanted layer, traced or with hooks, against the plain network."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_network import Straight, images, own
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812
from torchvision import models

from cnncodes.errors import SettingError
from cnncodes.networks.loading import load_backbone


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
        patch.setattr("cnncodes.networks.loading.digest_of", lambda state: "")
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
        expected, outputs = traced(images(64)), hooked(images(64))
    assert list(outputs) == list(expected) == layers
    assert all(torch.equal(outputs[layer], expected[layer]) for layer in layers)


@pytest.mark.parametrize("method", [False, True])
def test_in_place_functions_do_not_overwrite_a_kept_layer(method: bool) -> None:
    backbone = own(lambda: Straight(method))
    extractor = backbone.extractor(["conv", "penultimate"])
    assert isinstance(extractor, fx.GraphModule) is not method  # a method in place is left to the hooks
    with torch.inference_mode():
        maps = extractor(images())
    torch.testing.assert_close(maps["conv"], backbone.module.conv(images()))
    torch.testing.assert_close(maps["penultimate"], backbone.module.conv(images()).relu().mean(dim=(2, 3)))


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
        outputs = list(pool.map(run, batches))
    for one, other in zip(expected, outputs, strict=True):
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
