"""Vision transformers at other sizes: their positions are interpolated, against timm and torchvision themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from cnncodes.errors import BackboneError
from cnncodes.networks.image_size import fit_image_size
from cnncodes.networks.loading import list_layers, load_backbone


def images(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_vit_of_timm_takes_any_multiple_of_its_patches() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    small = {"patch_size": 14, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
    network = timm.models.VisionTransformer(img_size=70, **small).eval()
    twin = timm.models.VisionTransformer(img_size=70, dynamic_img_size=True, **small).eval()
    twin.load_state_dict(network.state_dict())
    assert not fit_image_size(network, "vit", 70), "it takes these as it is"
    with pytest.raises(
        BackboneError, match="multiple of its patches of 14 px, not 50 px; the nearest sizes are 42 and 56"
    ):
        fit_image_size(network, "vit", 50)
    assert fit_image_size(network, "vit", 42)
    with torch.inference_mode():
        torch.testing.assert_close(network(images(42)), twin(images(42)))


def test_a_vit_of_torchvision_takes_any_multiple_of_its_patches() -> None:
    torch.manual_seed(0)
    options = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 32, "num_classes": 3}
    network, twin = VisionTransformer(64, **options).eval(), VisionTransformer(96, **options).eval()
    nn.init.normal_(network.heads.head.weight)
    twin.load_state_dict(interpolate_embeddings(96, 16, network.state_dict()))
    assert fit_image_size(network, "vit", 96)
    with torch.inference_mode():
        assert torch.equal(network(images(96)), twin(images(96)))


def test_networks_without_positions_are_left_as_they_are() -> None:
    assert not fit_image_size(nn.Sequential(nn.Conv2d(3, 4, 3)), "plain", 50)


def test_a_backbone_says_that_its_positions_are_interpolated() -> None:
    pytest.importorskip("timm")
    backbone = load_backbone("timm:test_vit3", "random", image_size=96)
    assert backbone.notes == ["its weights were trained at 160 px, and their positions are interpolated for 96 px"]
    assert backbone.weights_sha256 == load_backbone("timm:test_vit3", "random").weights_sha256
    assert {row.grid for row in list_layers("timm:test_vit3", 96) if row.name == "layer4"} == {(6, 6)}
    with pytest.raises(BackboneError, match="multiple of its patches of 16 px, not 100 px"):
        list_layers("timm:test_vit3", 100)


def test_dinov2_takes_images_of_224_pixels_unless_told_otherwise() -> None:
    pytest.importorskip("timm")
    from cnncodes.networks.registry import find_network

    network = find_network("timm:vit_small_patch14_dinov2")
    entry = network.weights[network.default]
    assert (entry.preprocessing.image_size, network.preprocessing(entry).image_size) == (518, 224)
    assert network.preprocessing(entry).resize == 224
