"""Architectures of timm, one of each family: what their codes are, against what timm itself computes."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass

import pytest
import torch
from random_weights import initialised_quickly, numbers
from torch import nn

from cnncodes.errors import BackboneError
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.outputs import Prefix
from cnncodes.networks.pooling import pool
from cnncodes.networks.tokens import NORMED

pytest.importorskip("timm")

FAST = (
    *("test_convnext", "test_mambaout", "test_nfnet", "test_vit", "test_vit2", "test_vit3", "test_vit4"),
    *("efficientvim_m1", "efficientvit_m0", "levit_128s", "pit_ti_distilled_224", "resnet10t"),
)
SLOW = (
    # networks of tokens
    *("beit_base_patch16_224", "cait_xxs24_224", "convit_tiny", "crossvit_tiny_240", "deit_tiny_distilled_patch16_224"),
    *("eva02_tiny_patch14_224", "gmixer_12_224", "gmlp_ti16_224", "mixer_s32_224", "pit_ti_224", "resmlp_12_224"),
    *("tnt_s_patch16_224", "vit_base_patch32_siglip_256", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"),
    *("test_vit_relpos", "vit_tiny_patch16_224", "vit_tiny_r_s16_p8_224", "xcit_nano_12_p16_224"),
    # attention over maps
    *(
        "coat_tiny",
        "davit_tiny",
        "efficientformer_l1",
        "efficientvit_b0",
        "gcvit_xxtiny",
        "hieradet_small",
        "iformer_t",
    ),
    *("mobilevit_xxs", "mvitv2_tiny", "nest_tiny", "pvt_v2_b0", "shvit_s1", "swiftformer_xs", "test_coatnet"),
    *("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "test_maxvit", "tiny_vit_5m_224", "twins_svt_small"),
    # convolutions
    *("caformer_s18", "convmixer_768_32", "cs3darknet_s", "cspnext_tiny", "dla46_c"),
    *("edgenext_xx_small", "fasternet_t0", "fastvit_t8", "ghostnet_050", "hgnetv2_b0"),
    *("inception_next_atto", "lambda_resnet26t", "lcnet_035", "mnasnet_050", "mobilenetv3_small_050"),
    *("mobilenetv4_conv_small_035", "poolformer_s12", "regnetx_002", "repghostnet_050"),
    *("repvit_m0_9", "resnet50_clip", "resnetv2_18", "skresnet18"),
    *("starnet_s050", "test_efficientnet_evos", "tinynet_e"),
)
SMALL = 96  # pixels; for networks that take images of any size
FIXED = ("coat", "convit", "cross", "gcvit", "gm", "levit", "mixer", "nest", "pit", "resmlp", "tnt", "efficientvit_m")
FIXED += (
    "efficientformer",
    "test_coat",
    "test_max",
    "hiera",
    "lambda",
    "vit_tiny_r",
    "cait",
    "swin",
    "mvit",
    "tiny_vit",
)
STAGES = ["layer1", "layer2", "layer3", "layer4"]
POOL_BY = {  # of networks of tokens
    "beit_base_patch16_224": "patches",
    "eva02_tiny_patch14_224": "patches",
    "mixer_s32_224": "patches",
    "test_vit": "cls",
    "vit_base_patch32_siglip_256": "patches",
    "vit_small_patch14_reg4_dinov2": "cls+patches",
    "vit_small_patch16_dinov3": "cls+patches",
    "vit_tiny_patch16_224": "cls",
    "xcit_nano_12_p16_224": "avg",  # its stages are maps of its stem
}


@dataclass
class Case:
    """A network, a batch of images, and the outputs that its modules have when timm runs it."""

    name: str
    backbone: Backbone
    x: torch.Tensor
    hooked: dict[str, torch.Tensor]
    pre_logits: torch.Tensor


def make_case(name: str) -> Case:
    with initialised_quickly():
        size = None if name.startswith(FIXED) else SMALL if "patch14" not in name else 98
        backbone = load_backbone(f"timm:{name}", "random", image_size=size)
    module = backbone.module
    for seed, part in enumerate(module.modules()):
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.copy_(numbers(part.running_mean.shape, seed) / 5)  # as they are, they would do nothing
            part.running_var.copy_(numbers(part.running_mean.shape, seed).abs() + 0.5)
    side = backbone.preprocessing.image_size
    x = numbers(torch.Size([2, 3, side, side]), 1)
    nodes = {backbone.resolve(layer).removesuffix(NORMED) for layer in backbone.default_layers[:-1]}
    hooked: dict[str, torch.Tensor] = {}
    handles = [
        module.get_submodule(node).register_forward_hook(lambda _, args, y, node=node: hooked.update({node: y.clone()}))
        for node in nodes
    ]
    with torch.inference_mode():
        pre_logits = module.forward_head(module.forward_features(x), pre_logits=True)
    for handle in handles:
        handle.remove()
    return Case(name, backbone, x, hooked, pre_logits)


@pytest.fixture(scope="module", params=[*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


def computed(case: Case, layers: list[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return case.backbone.extractor(layers)(x)


def test_penultimate_is_what_timm_calls_the_input_of_the_head(case: Case) -> None:
    codes = computed(case, ["penultimate"], case.x)["penultimate"]
    assert case.pre_logits.isfinite().all()
    assert case.pre_logits.std(dim=0).max() > 0
    torch.testing.assert_close(pool(codes, "avg"), pool(case.pre_logits, "avg"), rtol=1e-5, atol=1e-6)
    assert codes.shape[1:] in {case.pre_logits.shape[1:], (case.pre_logits.shape[1], 1, 1)}


def test_layers_are_those_of_timm_in_a_batch_and_alone(case: Case) -> None:
    layers = case.backbone.default_layers
    extractor = case.backbone.extractor(layers)
    with torch.inference_mode():
        together, single = extractor(case.x), extractor(case.x[:1])
    outputs = case.backbone.outputs()
    for layer in layers:
        assert tuple(together[layer].shape[1:]) == outputs[case.backbone.resolve(layer)].shape
        scale = float(together[layer].abs().max())
        torch.testing.assert_close(single[layer], together[layer][:1], rtol=1e-4, atol=1e-5 * scale)
    for layer in layers[:-1]:
        node = case.backbone.resolve(layer)
        expected = case.hooked[node.removesuffix(NORMED)]
        if node.endswith(NORMED):
            with torch.inference_mode():
                expected = case.backbone.module.get_submodule("norm")(expected)
        if outputs[node].channels_last:
            expected = expected.permute(0, 3, 1, 2)
        torch.testing.assert_close(together[layer], expected, rtol=1e-5, atol=1e-6)
    first = computed(case, layers[:1], case.x)[layers[0]]
    torch.testing.assert_close(first, together[layers[0]], rtol=1e-5, atol=1e-6)


def test_tokens_are_those_that_timm_tells_apart(case: Case) -> None:
    """`forward_intermediates` gives the patches and what stands before them, normed."""
    module, layers = case.backbone.module, case.backbone.default_layers[:-1]
    if case.name in POOL_BY:
        assert case.backbone.default_pooling == POOL_BY[case.name]
    told = getattr(module, "forward_intermediates", None)
    if layers != STAGES or told is None or "return_prefix_tokens" not in inspect.signature(told).parameters:
        return
    depth = len(module.blocks)
    options = {"return_prefix_tokens": module.num_prefix_tokens > 0, "output_fmt": "NLC", "intermediates_only": True}
    with torch.inference_mode():
        pairs = told(case.x, [math.ceil(depth * i / 4) - 1 for i in (1, 2, 3, 4)], norm=True, **options)
    together, prefixes = computed(case, layers, case.x), case.backbone.prefixes(layers, "avg")
    for layer, pair in zip(layers, pairs, strict=True):
        patches, prefix = pair if isinstance(pair, tuple) else (pair, pair[:, :0])
        has_class = prefixes[layer].has_class
        assert prefixes[layer] == Prefix(prefix.shape[1], getattr(module, "cls_token", None) is not None)
        torch.testing.assert_close(together[layer], torch.cat([prefix, patches], 1), rtol=1e-4, atol=1e-5)
        means = pool(together[layer], "patches", prefixes[layer])
        torch.testing.assert_close(means, patches.mean(dim=1), rtol=1e-4, atol=1e-5)
        if has_class:
            both = pool(together[layer], "cls+patches", prefixes[layer])
            torch.testing.assert_close(both, torch.cat([prefix[:, 0], means], 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("xception", r"timm:xception is a former name\. Did you mean 'timm:.*xception"),
        ("mobilenetv5_300m_enc", r"the head 'classifier' is no module of the network"),
    ],
)
def test_what_cannot_work_is_refused_with_a_clear_line(name: str, line: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.init, "kaiming_uniform_", lambda tensor, *args, **kwargs: tensor)
        if name.endswith("_enc"):
            patch.setattr("timm.create_model", lambda *args, **options: nn.Sequential(nn.Conv2d(3, 4, 3)))
        with pytest.raises(BackboneError, match=line):
            load_backbone(f"timm:{name}", "random")
