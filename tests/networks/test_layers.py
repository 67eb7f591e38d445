"""The layers of every torchvision network, against plain torchvision; the table of layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from random_weights import initialised_quickly
from torch import fx, nn
from torchvision import models

from cnncodes.errors import BackboneError
from cnncodes.networks import extractor
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.layers import find_stages, survey
from cnncodes.networks.loading import list_layers, load_backbone
from cnncodes.networks.tokens import NORMED
from cnncodes.networks.tracing import Tracer

NAMES = models.list_models(module=models)
STAGES = ["layer1", "layer2", "layer3", "layer4"]
FAMILIES = [  # run by default; the sweep over all networks is slow
    "densenet121", "efficientnet_b0", "googlenet", "mobilenet_v2", "resnet18", "squeezenet1_1", "swin_t", "vit_b_32",
]  # fmt: skip
SWEEP = [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
FIXED = ("vit", "maxvit")  # take only images of the size that they were built for
PLAIN_OPTIONS = {  # as torchvision itself builds them when it loads its own weights
    "googlenet": {"transform_input": True, "aux_logits": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": True, "init_weights": False},
}
CHANNELS = {  # of layer1 ... layer4, from the papers' tables
    "alexnet": (64, 192, 256, 256),
    "convnext_tiny": (96, 192, 384, 768),
    "densenet121": (256, 512, 1024, 1024),
    "efficientnet_b0": (24, 40, 112, 1280),
    "efficientnet_b1": (24, 40, 112, 1280),
    "efficientnet_b3": (32, 48, 136, 1536),
    "efficientnet_v2_s": (48, 64, 160, 1280),
    "googlenet": (192, 480, 832, 1024),
    "inception_v3": (192, 288, 768, 2048),
    "maxvit_t": (64, 128, 256, 512),
    "mnasnet1_0": (24, 40, 96, 1280),
    "mobilenet_v2": (24, 32, 96, 1280),
    "mobilenet_v3_large": (24, 40, 112, 960),
    "regnet_y_400mf": (48, 104, 208, 440),
    "resnet18": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "shufflenet_v2_x1_0": (24, 116, 232, 1024),
    "squeezenet1_0": (256, 512, 512, 512),
    "swin_t": (96, 192, 384, 768),
    "swin_v2_t": (96, 192, 384, 768),
    "vgg16": (256, 512, 512, 512),
}


def plain_head(network: nn.Module) -> str:
    """The last linear layer, or SqueezeNet's last convolution: found without cnncodes."""
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    convolutions = [path for path, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    return linear[-1] if linear else convolutions[-1]


def skip_initialisation(patch: pytest.MonkeyPatch) -> None:
    for name in [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]:
        patch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)


def plain_twin(backbone: Backbone) -> nn.Module:
    """Plain torchvision, in-place activations and all, with the parameters of the backbone."""
    sized = {"image_size": backbone.native_size} if backbone.name.startswith("vit") else {}
    with pytest.MonkeyPatch.context() as patch:
        skip_initialisation(patch)
        network = models.get_model(backbone.name, weights=None, **PLAIN_OPTIONS.get(backbone.name, {}), **sized)
    result = network.load_state_dict(backbone.module.state_dict(), strict=False)
    assert all(key.startswith(("aux", "AuxLogits")) for key in result.missing_keys)
    assert not result.unexpected_keys
    return network.eval()


def watch(network: nn.Module, x: torch.Tensor, paths: list[str], head: str) -> dict[str, torch.Tensor]:
    """Outputs of modules (copied at once: what follows may write over them) and the input of the head, by hooks."""
    seen: dict[str, torch.Tensor] = {}
    for path in {path.removesuffix(NORMED) for path in paths}:
        network.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: seen.__setitem__(path, output.clone())
        )
    network.get_submodule(head).register_forward_pre_hook(
        lambda module, args: seen.__setitem__("penultimate", args[0].clone())
    )
    with torch.inference_mode():
        network(x)
        for path in paths:
            if path.endswith(NORMED):  # a block of a vision transformer, with the norm that follows the last one
                seen[path] = network.encoder.ln(seen[path.removesuffix(NORMED)])
    return seen


@dataclass
class Case:
    backbone: Backbone
    x: torch.Tensor
    paths: list[str]
    expected: dict[str, torch.Tensor]


def make_case(name: str) -> Case:
    with initialised_quickly():
        backbone = load_backbone(name, "random")
    side = backbone.preprocessing.image_size if name.startswith(FIXED) else 96
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    stages = [backbone.resolve(layer) for layer in backbone.default_layers if layer != "penultimate"]
    rows = [row.path for row in backbone.list_layers() if row.path in dict(backbone.module.named_modules())]
    paths = sorted({*stages, *rows[:: max(1, len(rows) // 4)]})
    network = plain_twin(backbone)
    return Case(backbone, x, paths, watch(network, x, paths, plain_head(network)))


def computed(case: Case, layers: list[str]) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return case.backbone.extractor(layers)(case.x)


@contextmanager
def traced_once() -> Iterator[None]:
    """Cut all extractors that are built meanwhile out of one trace of their network, which takes longer than a run."""
    plain_trace, traces = extractor._trace, dict[nn.Module, Tracer | None]()

    def trace(network: nn.Module) -> Tracer | None:
        if network not in traces:
            traces[network] = plain_trace(network)
        if (tracer := traces[network]) is None:
            return None
        copied, nodes = copy.copy(tracer), dict[fx.Node, fx.Node]()
        copied.graph = fx.Graph(tracer_cls=type(tracer))
        copied.graph.output(copied.graph.graph_copy(tracer.graph, nodes))
        copied.nodes = {name: nodes[node] for name, node in tracer.nodes.items()}
        return copied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "_trace", trace)
        yield


def as_ours(case: Case, path: str, value: torch.Tensor) -> torch.Tensor:
    """Plain torchvision's output with the axes that the table of layers promises."""
    native = next(row for row in case.backbone.list_layers() if row.path == path)
    if value.ndim == 4 and value.shape[1] != native.map_shape[0]:
        return value.movedim(-1, 1)
    return value


@pytest.fixture(scope="module", params=SWEEP)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make_case(request.param)
    torch.set_num_threads(threads)


def test_penultimate_is_what_enters_the_head_of_plain_torchvision(case: Case) -> None:
    codes = computed(case, ["penultimate"])["penultimate"]
    assert case.expected["penultimate"].std() > 0
    torch.testing.assert_close(codes, case.expected["penultimate"], rtol=1e-5, atol=0)


def test_layers_are_those_of_plain_torchvision_alone_and_together(case: Case) -> None:
    together = computed(case, [*case.paths, *case.backbone.default_layers])
    with traced_once():
        alone = {path: computed(case, [path])[path] for path in case.paths}
    for path in case.paths:
        expected = as_ours(case, path, case.expected[path])
        torch.testing.assert_close(together[path], expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(alone[path], together[path], rtol=0, atol=0)
    for layer in case.backbone.default_layers[:-1]:
        torch.testing.assert_close(together[layer], together[case.backbone.resolve(layer)], rtol=0, atol=0)


@pytest.fixture(scope="module", params=SWEEP)
def structure(request: pytest.FixtureRequest) -> Backbone:
    with pytest.MonkeyPatch.context() as patch:
        skip_initialisation(patch)
        patch.setattr("cnncodes.networks.loading.digest_of", lambda state: "")
        return load_backbone(request.param, "random")


def test_every_torchvision_network_has_its_layers(structure: Backbone) -> None:
    rows = {row.name: row for row in structure.list_layers()}
    head = structure.module.get_submodule(plain_head(structure.module))
    assert structure.resolve("penultimate") == plain_head(structure.module) + ":input"
    assert rows["penultimate"].n_features == (head.in_features if isinstance(head, nn.Linear) else head.in_channels)
    assert not structure.module.training
    assert not any(parameter.requires_grad for parameter in structure.module.parameters())
    assert structure.default_layers == [*STAGES, "penultimate"]
    if structure.name.startswith("vit"):
        depth, width = len(structure.module.encoder.layers), structure.module.hidden_dim
        blocks = [f"encoder.layers.encoder_layer_{depth * i // 4 - 1}:normed" for i in (1, 2, 3, 4)]
        assert [structure.resolve(layer) for layer in STAGES] == blocks
        side = structure.native_size // structure.module.patch_size
        assert {(rows[layer].map_shape, rows[layer].grid) for layer in STAGES} == {((side**2 + 1, width), (side, side))}
        assert structure.default_pooling == "cls"
        return
    assert structure.default_pooling == "avg"
    strides = [next(row for row in rows.values() if layer in row.aliases).stride for layer in STAGES]
    assert strides == ([4, 8, 16, 16] if structure.name.startswith("squeezenet") else [4, 8, 16, 32])
    for layer in STAGES:
        if layer in dict(structure.module.named_modules()):
            assert structure.resolve(layer) == layer
    if structure.name in CHANNELS:
        maps = [next(row for row in rows.values() if layer in row.aliases).map_shape for layer in STAGES]
        assert tuple(shape[0] for shape in maps) == CHANNELS[structure.name]
        assert all(height == width for _, height, width in maps)


def test_the_head_of_no_network_fixes_the_size_but_transformers_need_a_multiple_of_their_patches() -> None:
    """AlexNet and VGG pool adaptively: their penultimate takes any image that leaves a map."""
    rows = {row.name: row for row in list_layers("alexnet", 448)}
    assert rows["penultimate"].map_shape == (4096,)
    assert rows["layer4"].map_shape == (256, 13, 13)
    with pytest.raises(BackboneError, match=r"alexnet cannot take images of 32 × 32 px .*its weights expect 224"):
        list_layers("alexnet", 32)
    with pytest.raises(BackboneError, match=r"vit_b_32 .* multiple of its patches of 32 px, not 250 .* 224 and 256"):
        list_layers("vit_b_32", 250)


def test_strides_at_another_size_are_the_native_ones() -> None:
    assert {row.name: row.stride for row in list_layers("mobilenet_v2", 100) if row.name in STAGES} == {
        "layer1": 4,
        "layer2": 8,
        "layer3": 16,
        "layer4": 32,
    }


def test_an_axis_order_that_is_unclear_is_taken_from_the_native_size() -> None:
    """Swin at 384 px: the first map is 96 high, 96 wide and 96 deep."""
    backbone = load_backbone("swin_t", "random")
    x = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    twin = plain_twin(backbone)
    expected = watch(twin, x, ["features.1"], "head")["features.1"]
    assert expected.shape == (1, 96, 96, 96)
    with torch.inference_mode():
        maps = backbone.extractor(["layer1"])(x)["layer1"]
    torch.testing.assert_close(maps, expected.movedim(-1, 1))


def test_survey_leaves_nothing_behind_in_the_network() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 4, stride=4)
            self.head = nn.Linear(4, 2)
            self.memory: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.memory is None:
                self.memory = torch.ones(1, device=x.device)
            return self.head((self.conv(x) * self.memory).mean(dim=(2, 3)))

    network = Remembers().eval()
    result = survey(network, 16)
    assert network.memory is None
    assert result.outputs["conv"].shape == (4, 4, 4)
    assert find_stages(network, result, "head") == {"layer1": "conv"}
    assert not network.conv._forward_hooks


def test_survey_runs_on_zeros_where_a_network_has_numbers_of_its_own() -> None:
    class Own(nn.Sequential):
        constant = torch.ones(1, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.add(self.constant).contiguous())

    network = Own(nn.Conv2d(3, 4, 8, stride=8), nn.Flatten(), nn.Linear(16, 2)).eval()
    result = survey(network, 16)
    assert result.outputs["0"].stride == 8
    assert result.outputs["2:input"].shape == (16,)


def test_weights_of_an_attention_are_no_feature_maps() -> None:
    """49 x 49 weights of the last windows of a Swin transformer look like a map of stride 4."""
    pytest.importorskip("timm")
    backbone = load_backbone("timm:swin_tiny_patch4_window7_224", "random")
    maps = {row.name: row.map_shape for row in backbone.list_layers() if row.name in STAGES}
    assert maps == {"layer1": (96, 56, 56), "layer2": (192, 28, 28), "layer3": (384, 14, 14), "layer4": (768, 7, 7)}
