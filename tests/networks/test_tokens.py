"""Which tokens are patches, which blocks are stages, and how their codes are made, by hand."""

from __future__ import annotations

import pytest
import torch
from tiny_network import own
from torch import nn

from cnncodes.errors import SettingError
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.facts import TOKEN_POOLINGS
from cnncodes.networks.layers import survey
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.outputs import Prefix
from cnncodes.networks.tokens import NORMED, blocks_of, default_pooling, prefix_of, prefix_within, token_stages


class Tokens(nn.Module):
    """Six blocks that add their number to every token; a class token and a register before the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 4, 16, stride=16)
        self.cls_token, self.num_prefix_tokens, self.global_pool = nn.Parameter(torch.ones(1, 1, 4)), 2, "token"
        self.blocks = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(x.shape[0], 2, -1)
        return self.head(self.norm(self.blocks(torch.cat([first, patches], dim=1)))[:, 0])


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return own(Tokens)


def test_the_stages_are_the_normed_blocks_at_the_quarters_of_the_depth(backbone: Backbone) -> None:
    stages = {layer: backbone.resolve(layer) for layer in backbone.default_layers[:-1]}
    assert stages == {f"layer{i}": f"blocks.{block}:normed" for i, block in enumerate((1, 2, 4, 5), start=1)}
    x = torch.randn(2, 3, backbone.native_size, backbone.native_size)
    module = backbone.module
    with torch.inference_mode():
        codes = backbone.extractor(["layer2", "blocks.2", "layer4", "norm"])(x)
        torch.testing.assert_close(codes["layer2"], module.norm(codes["blocks.2"]))
        assert torch.equal(codes["layer4"], codes["norm"])


def test_a_sequence_is_a_grid_of_patches_behind_the_tokens_of_the_network() -> None:
    assert prefix_of(Tokens()) == Prefix(2, True)
    assert prefix_within(2 + 196, Prefix(2, True)) == Prefix(2, True)
    assert prefix_within(196, Prefix(2, True)) == Prefix(0, False)
    assert prefix_within(195, Prefix(2, True)) is None
    assert prefix_of(nn.Linear(2, 2)) == Prefix(0, False)


def test_a_pooling_that_a_layer_does_not_allow_is_refused_by_name(backbone: Backbone) -> None:
    assert backbone.prefixes(["layer1", "penultimate"], "cls+patches")["layer1"] == Prefix(2, True)
    with pytest.raises(SettingError, match=r"patch_embed of own has no class token, which pooling='cls' asks for"):
        backbone.prefixes(["layer1", "patch_embed"], "cls")
    with pytest.raises(SettingError, match=r"layer1 of mobilenet_v2 has no class token.*choose pooling='avg'"):
        load_backbone("mobilenet_v2").prefixes(["layer1"], "cls+patches")
    assert load_backbone("mobilenet_v2").prefixes(["layer1"], "patches") == {"layer1": Prefix()}


def test_the_default_pooling_is_how_such_networks_are_read(backbone: Backbone) -> None:
    assert backbone.default_pooling == "cls"
    assert load_backbone("mobilenet_v2").default_pooling == "avg"
    network, last = backbone.module, backbone.resolve("layer4")
    outputs = survey(network, backbone.native_size).outputs
    assert default_pooling("timm:vit_small_patch14_dinov2", network, outputs, last) == "cls+patches"
    network.global_pool = "avg"
    assert default_pooling("timm:vit_small_patch16_dinov3", network, outputs, last) == "cls+patches"
    assert default_pooling("timm:beit_base_patch16_224", network, outputs, last) == "patches"
    assert all(row.source for row in TOKEN_POOLINGS)


def test_blocks_of_different_widths_are_no_stages() -> None:
    network = Tokens()
    network.blocks = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    outputs = survey(network.eval(), 64).outputs
    assert blocks_of(network, outputs) == []
    assert token_stages(network, outputs) == {}
    assert not any(node.endswith(NORMED) for node in outputs)
