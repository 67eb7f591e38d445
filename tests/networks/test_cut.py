"""Cuts: the lower part and the upper part together are the network, and each keeps to itself."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_network import Staged, images, own
from torch import nn

from cnncodes.errors import BackboneError, MismatchError
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.cut import CutCost, cut_at, cut_before, find_cuts, layer_below
from cnncodes.networks.loading import load_backbone
from cnncodes.vocabulary import PIXELS

FAMILIES = [
    *("alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "densenet121", "googlenet", "inception_v3"),
    *("mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "efficientnet_b0", "regnet_y_400mf"),
    *("convnext_tiny", "swin_t", "swin_v2_t", "squeezenet1_1"),
]
FIRSTS = ("head", "layer4", "layer3", "layer2", "layer1", "all")


class Block(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(n, n, 3, padding=1), nn.BatchNorm2d(n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


class Skipping(nn.Module):
    """The second block gets what enters the first one, too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two, self.head = nn.Conv2d(3, 4, 4, 4), Block(4), Block(4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head((self.two(self.one(x)) + x).mean(dim=(2, 3)))


class Shared(nn.Module):
    """One block is called below and above."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.relu, self.head = nn.Conv2d(3, 4, 4, 4), Block(4), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.relu(self.block(self.stem(x)))).mean(dim=(2, 3)))


def assert_halves_are_the_whole(backbone: Backbone, first: str) -> None:
    cut, x = cut_before(backbone, first), images(backbone.preprocessing.image_size)
    lower = [] if cut.below == PIXELS else [cut.below]
    with torch.no_grad():
        outputs = backbone.extractor([*lower, "penultimate"])(x)
        maps = outputs[cut.below] if lower else x
        torch.testing.assert_close(cut.top(maps), outputs["penultimate"], rtol=0, atol=0)
    if maps.ndim != 3:
        assert tuple(maps.shape[1:]) == cut.map_shape
    shared = {parameter.data_ptr() for parameter in backbone.module.parameters()}
    assert not shared & {parameter.data_ptr() for parameter in cut.top.parameters()}
    assert not any(module.training for module in cut.top.modules())
    own_names = dict(backbone.module.named_parameters())
    top_names = dict(cut.top.named_parameters())
    assert {name: own_names[name].shape for name in top_names} == {name: one.shape for name, one in top_names.items()}


@pytest.mark.parametrize("first", FIRSTS)
def test_halves_are_the_whole_of_the_default_network(first):
    assert_halves_are_the_whole(load_backbone("mobilenet_v2"), first)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_halves_are_the_whole_in_all_families(name):
    backbone = load_backbone(name, "random")
    for first in FIRSTS if "layer4" in backbone.aliases else ("head", "all"):
        if first in backbone.aliases or first in ("head", "all"):
            assert_halves_are_the_whole(backbone, first)


@pytest.mark.slow
def test_network_of_tokens_is_cut_at_a_block():
    backbone = load_backbone("vit_b_16", "random")
    assert_halves_are_the_whole(backbone, "encoder.layers.encoder_layer_11")
    assert cut_before(backbone, "encoder.layers.encoder_layer_11").map_shape == (197, 768)


def test_stage_is_cut_below_and_the_whole_at_the_pixels():
    backbone = load_backbone("mobilenet_v2")
    assert [layer_below(backbone, first) for first in FIRSTS] == [
        *("penultimate", "layer3", "layer2", "layer1"),
        *("features.1", "pixels"),
    ]
    assert layer_below(backbone, "features.17") == "features.17:input"
    assert layer_below(backbone, "classifier.1") == "penultimate"
    trained, run = cut_before(backbone, "layer4"), cut_at(backbone, "features.13")
    assert (trained.n_parameters, run.n_parameters, run.depths) == (1_681_344, 0, {})
    assert sum(one.numel() for one in run.top.parameters()) == 1_681_344
    assert run.names == trained.names
    assert find_cuts(backbone)["layer4"] == CutCost("layer3", 1_681_344, 2 * 96 * 14 * 14)
    assert find_cuts(backbone)["all"] == CutCost("pixels", 2_223_872, 3 * 224 * 224)
    assert list(find_cuts(backbone)) == ["layer1", "layer2", "layer3", "layer4", "head", "all"]


def test_rates_can_be_told_by_how_far_up_a_parameter_is():
    depths = list(cut_before(load_backbone("mobilenet_v2"), "all").depths.values())
    assert depths == sorted(depths)
    assert (depths[0], depths[-1] > 0.95) == (0, True)


class Untraceable(Skipping):
    """Its way depends on the numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.sum() < 1e9 else -x)


class Flat(nn.Module):
    """More than one map enters everything but the head, and nothing but the pixels can be cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((self.one(x) * self.two(x)).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("network", "first", "below", "trained", "frozen_in_steps"),
    [
        (Skipping, "two", "stem", {"two"}, False),
        (Shared, "block", "stem", {"block"}, False),
        (Shared, "relu", "penultimate", set(), False),
        (Untraceable, "two", PIXELS, {"two"}, True),
        (Untraceable, "one", PIXELS, {"one", "two"}, True),
        (Untraceable, "all", PIXELS, {"stem", "one", "two"}, False),
        (Untraceable, "head", "penultimate", set(), False),
        (Flat, "two", PIXELS, {"one", "two"}, False),
    ],
)
def test_where_a_part_cannot_be_cut_off_what_is_below_stays_frozen(network, first, below, trained, frozen_in_steps):
    backbone = own(network)
    assert_halves_are_the_whole(backbone, first)
    cut = cut_before(backbone, first)
    assert (cut.below, cut.frozen_in_steps) == (below, frozen_in_steps)
    assert {name.partition(".")[0] for name, one in cut.top.named_parameters() if one.requires_grad} == trained
    assert {name.partition(".")[0] for name in cut.depths} == trained


def test_part_beside_others_is_trained_alone():
    cut = cut_before(own(Flat), "head", unfreeze=["two"])
    assert (cut.below, cut.frozen_in_steps, set(cut.depths)) == (PIXELS, True, {"two.weight", "two.bias"})


def test_network_without_a_graph_is_trained_in_copies():
    """Each copy of the upper part runs on its own parameters, and other extractors of the network go on."""
    backbone = own(Untraceable)
    top, x = cut_before(backbone, "one").top, images()
    before = backbone.extractor(["penultimate"])(x)["penultimate"]
    other = copy.deepcopy(top)
    with torch.no_grad():
        other.get_parameter("two.conv.weight").zero_()
    assert not torch.equal(top(x), other(x))
    assert torch.equal(top(x).detach(), before)
    other(x).sum().backward()
    assert other.get_parameter("stem.weight").grad is None
    assert other.get_parameter("one.conv.weight").grad.abs().sum() > 0
    assert torch.equal(backbone.extractor(["penultimate"])(x)["penultimate"], before)


def test_costs_are_those_of_the_cuts():
    for backbone in (own(Untraceable), own(Skipping), own(Staged)):
        costs = find_cuts(backbone)
        assert {"head", "all"} <= costs.keys()
        for first, cost in costs.items():
            cut = cut_before(backbone, first)
            assert (cost.below, cost.n_parameters) == (cut.below, cut.n_parameters)


@pytest.mark.parametrize(
    ("first", "names", "below", "trained"),
    [
        ("layer3", {"freeze": ["layer3"]}, "layer3", {"layer4"}),
        ("layer3", {"freeze": ["layer4"]}, "layer2", {"layer3"}),
        ("layer3", {"freeze": ["layer3"], "kept": ["layer1", "layer2", "layer4"]}, "layer2", {"layer4"}),
        ("layer4", {"kept": ["layer1"]}, "layer1", {"layer4"}),
        ("layer2", {"freeze": ["layer[34]"]}, "layer1", {"layer2"}),
        ("layer4", {"unfreeze": ["layer2"]}, "layer1", {"layer2", "layer4"}),
        ("head", {"unfreeze": ["layer3.0"]}, "layer2", {"layer3"}),
        ("head", {"unfreeze": ["layer[12]"]}, PIXELS, {"layer1", "layer2"}),
        ("all", {"freeze": ["layer[12]"], "unfreeze": ["layer2"]}, "layer2", {"layer3", "layer4"}),
        ("layer4", {"freeze": ["*"]}, "penultimate", set()),
    ],
)
def test_parts_are_frozen_and_unfrozen_by_name(first, names, below, trained):
    backbone = own(Staged)
    cut = cut_before(backbone, first, **names)
    assert {name.partition(".")[0] for name, one in cut.top.named_parameters() if one.requires_grad} == trained
    assert cut.below == below
    x = images()
    with torch.no_grad():
        outputs = backbone.extractor([*({cut.below} - {PIXELS}), "penultimate"])(x)
        assert torch.equal(cut.top(outputs.get(cut.below, x)), outputs["penultimate"])


def test_single_parameters_are_frozen_by_pattern():
    cut = cut_before(own(Staged), "layer3", freeze=["*.bias", "*.1"])
    assert set(cut.depths) == {"layer3.0.weight", "layer4.0.weight"}
    stage = cut_before(load_backbone("mobilenet_v2"), "layer3", freeze=["layer3"])
    assert set(stage.depths) == set(cut_before(load_backbone("mobilenet_v2"), "layer4").depths)


def test_part_that_is_not_there_is_named():
    with pytest.raises(BackboneError, match=r"no layer 'layer9'\. Did you mean"):
        cut_before(load_backbone("mobilenet_v2"), "layer9")


def test_tensors_take_the_place_of_parameters_in_a_copy():
    backbone = load_backbone("mobilenet_v2")
    name = "features.17.conv.2.weight"
    other = torch.zeros_like(backbone.module.get_parameter(name))
    tuned = backbone.with_tensors({name: other})
    x = images(224)
    before, after = (one.extractor(["layer3", "penultimate"])(x) for one in (backbone, tuned))
    assert torch.equal(before["layer3"], after["layer3"])
    assert not torch.equal(before["penultimate"], after["penultimate"])
    assert torch.equal(tuned.module.get_parameter(name), other)
    assert backbone.module.get_parameter(name).abs().sum() > 0
    assert tuned.module.get_parameter("features.0.0.weight") is backbone.module.get_parameter("features.0.0.weight")
    for name, shape in (("features.17.conv.2.weight", (3,)), ("nothing", (3,))):
        with pytest.raises(MismatchError, match=f"the parameter {name} .* the fine-tuned one has"):
            backbone.with_tensors({name: torch.zeros(shape)})


def test_a_network_of_tokens_is_cut_between_blocks() -> None:
    """From a stage on: what the block below gives, without the norm that its codes have."""
    pytest.importorskip("timm")
    backbone, x = load_backbone("timm:test_vit3", "random"), images(160, 2)
    assert layer_below(backbone, "layer1") == "blocks.0:input"
    expected = {"layer1": "norm_pre", "layer4": "blocks.6"}  # norm_pre does nothing here
    with torch.inference_mode():
        codes = backbone.extractor(["penultimate"])(x)["penultimate"]
        for first, below in expected.items():
            cut = cut_before(backbone, first)
            assert cut.below == below
            torch.testing.assert_close(cut.top(backbone.extractor([below])(x)[below]), codes)
    assert set(find_cuts(backbone)) == {"layer1", "layer2", "layer3", "layer4", "head", "all"}
