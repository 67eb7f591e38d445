"""Networks by name: the list, one's own, and names that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_network import PLAIN, Tiny

from cnncodes.errors import BackboneError
from cnncodes.networks.loading import list_layers, load_backbone
from cnncodes.networks.registry import list_backbones, register_backbone
from cnncodes.networks.torchvision_zoo import torchvision_names


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: load_backbone("resnet51", "random"),
            r"no backbone 'resnet51'\. Did you mean '.*resnet50'.*cnncodes backbones",
        ),
        (
            lambda: load_backbone().resolve("layr3"),
            r"no layer 'layr3'\. Did you mean 'layer3'.*cnncodes layers mobilenet_v2",
        ),
        (lambda: load_backbone().extractor(["features.99"]), r"no layer 'features\.99'"),
        (lambda: load_backbone("timm:resnet19"), r"no backbone 'timm:resnet19'\. Did you mean 'timm:resnet"),
        (lambda: load_backbone("timm:resnet18.nope"), r"timm:resnet18 has no weights 'nope'"),
    ],
)
def test_unknown_names_get_the_nearest_ones(call: object, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        call()  # type: ignore[operator]


def test_the_table_of_backbones() -> None:
    rows = {row.name: row for row in list_backbones()}
    assert set(torchvision_names()) <= set(rows)
    row = rows["resnet50"]
    assert (row.source, row.weights, row.n_params, row.top1) == ("torchvision", "IMAGENET1K_V1", 25557032, 76.13)
    assert rows["vit_h_14"].licence == "CC-BY-NC-4.0"
    assert [row.name for row in list_backbones("vgg1?_bn")] == ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
    assert {row.name for row in list_backbones("squeeze")} == {"squeezenet1_0", "squeezenet1_1"}
    assert list_backbones("no such thing") == []


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    register_backbone("tiny_own", Tiny, preprocessing=PLAIN, head="classify", licence="MIT", categories=["a", "b"])
    try:
        with pytest.raises(BackboneError, match=r"there is a backbone 'tiny_own' already.*overwrite=True"):
            register_backbone("tiny_own", Tiny, preprocessing=PLAIN)
        backbone = load_backbone("tiny_own")
        assert (backbone.weights, backbone.licence, backbone.categories) == ("builder", "MIT", ("a", "b"))
        assert backbone.default_layers == ["layer1", "penultimate"]
        assert backbone.resolve("penultimate") == "classify:input"
        assert backbone.preprocessing == PLAIN
        x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            maps = backbone.extractor(["layer1", "penultimate"])(x)
            expected = backbone.module.conv(x).relu()
        torch.testing.assert_close(maps["layer1"], expected)
        torch.testing.assert_close(maps["penultimate"], expected.mean(dim=(2, 3)) * 2)
        assert [row.name for row in list_backbones("tiny_own")] == ["tiny_own"]
        assert list_layers("tiny_own")[0].path == "conv"

        state = {key.replace("conv", "stem"): value * 2 for key, value in backbone.module.state_dict().items()}
        torch.save(state, tmp_path / "w.pth")
        register_backbone(
            "tiny_own",
            Tiny,
            preprocessing=PLAIN,
            weights=tmp_path / "w.pth",
            renames=[(r"^stem\.", "conv.")],
            overwrite=True,
        )
        loaded = load_backbone("tiny_own")
        assert loaded.weights == str(tmp_path / "w.pth")
        assert loaded.head == "extra"  # the last linear layer, unless told otherwise
        assert torch.equal(loaded.module.conv.weight, 2 * backbone.module.conv.weight)
    finally:
        from cnncodes.networks import registry as zoo

        zoo.registered_networks.pop("tiny_own", None)


def test_names_that_are_taken_are_refused() -> None:
    for name in ("resnet50", "timm:mine"):
        with pytest.raises(BackboneError, match=name):
            register_backbone(name, Tiny, preprocessing=PLAIN)
