"""Where an answer comes from: the maps and the constant make the decision value, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_network import PLAIN, Staged, Straight, Tiny

from cnncodes.errors import BackboneError, SettingError
from cnncodes.extraction.extract import extract
from cnncodes.images.loading import load_images
from cnncodes.models.fit import fit
from cnncodes.models.model import ProbeModel
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.registry import register_backbone


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    register_backbone("explained_mean", Staged, preprocessing=PLAIN)
    register_backbone("explained_rectified", lambda: Straight(False), preprocessing=PLAIN)
    register_backbone("explained_double", Tiny, preprocessing=PLAIN, head="classify")


def small_model(images: Path, folder: Path, network: str = "explained_mean", **options) -> ProbeModel:
    views, pooling = options.pop("views", None), options.pop("pooling", None)
    layers = options.pop("layers", ["penultimate"])
    codes = folder / "codes.h5"
    extract(
        images, codes, backbone=network, weights="random", layers=layers, views=views, pooling=pooling, dtype="float32"
    )
    return fit(codes, layers=layers, C=0.1, **options)


@pytest.mark.parametrize("pooling", ["avg", "max", "gem", "grid2", "flatten"])
@pytest.mark.parametrize("scale", ["shrunk", "standard", "l2", "none"])
def test_the_maps_and_the_constant_make_the_decision(scale, pooling, small_sample, tmp_path):
    layers = ["layer2", "penultimate"]
    model = small_model(small_sample, tmp_path, layers=layers, pooling=pooling, scale=scale)
    images = load_images(small_sample / "test", labelled=False)
    found = list(model.explain(images))
    assert [one.path for one in found] == images.ids
    decision = model.decision_function(model.concatenated(model.compute_codes(images).codes))
    for one, values in zip(found, decision, strict=True):
        assert [part.shape for part in one.maps.values()] == [(4, 4), (1, 1)]
        total = sum(part.mean() for part in one.maps.values()) + one.constant
        tolerance = 1e-5 if pooling == "gem" else 1e-9  # what gem makes of zeros is no sum over places
        assert total == pytest.approx(one.decision, abs=tolerance * max(1, abs(one.constant)))
        others = (values.sum() - values.max()) / 2
        assert one.decision == pytest.approx(values.max() - others, abs=1e-4 * max(1, abs(one.constant)))
        assert one.label == model.classes[values.argmax()]


def test_a_map_is_the_weighted_sum_of_the_channels(small_sample, tmp_path):
    model = small_model(small_sample, tmp_path, layers=["layer2"], scale="standard")
    (path,) = list((small_sample / "test" / "Bag").iterdir())[:1]
    (one,) = model.explain(path, label="Sandal", against="Bag")
    backbone = load_backbone("explained_mean", "random")
    pixels = torch.from_numpy(np.array(one.picture)).permute(2, 0, 1)[None]
    channels = backbone.extractor(["layer2"])(backbone.preprocessing.normalise(pixels))["layer2"][0].numpy()
    sandal, bag = (model.coef[model.classes.index(name)] / model.deviation for name in ("Sandal", "Bag"))
    assert np.allclose(one.maps["layer2"], np.einsum("c,chw->hw", sandal - bag, channels), atol=1e-5)
    assert (one.path, one.label) == (path.name, "Sandal")


def test_of_two_classes_the_first_has_the_negative_decision(small_sample, tmp_path):
    for name in ("Bag", "Sandal"):
        shutil.copytree(small_sample / "train" / name, tmp_path / "pair" / name)
    model = small_model(tmp_path / "pair", tmp_path)
    assert len(model.coef) == 1
    first, second = (list(model.explain(small_sample / "test", label=name)) for name in model.classes)
    assert len(first) == 15
    for one, other in zip(first, second, strict=True):
        assert one.decision == -other.decision
        assert np.array_equal(one.maps["penultimate"], -other.maps["penultimate"])


def test_a_mirrored_image_has_the_mirrored_map(small_sample, tmp_path):
    model = small_model(small_sample, tmp_path, layers=["layer2"], views="flip")
    with Image.open(next((small_sample / "test" / "Bag").iterdir())) as image:
        pixels = np.array(image.convert("RGB").resize((32, 32)))
    one, other = model.explain([pixels, pixels[:, ::-1].copy()])
    assert one.label == other.label
    assert np.allclose(one.maps["layer2"], other.maps["layer2"][:, ::-1], atol=1e-5)
    assert one.maps["layer2"].mean() + one.constant == pytest.approx(one.decision, abs=1e-9)


def test_a_function_may_stand_between_map_and_mean(small_sample, tmp_path):
    model = small_model(small_sample, tmp_path, "explained_rectified", layers=["penultimate"])
    for one in model.explain(small_sample / "test"):
        assert one.maps["penultimate"].shape == (8, 8)
        assert one.maps["penultimate"].mean() + one.constant == pytest.approx(one.decision, abs=1e-9)


def test_unreadable_images_are_left_out(small_sample, tmp_path):
    model = small_model(small_sample, tmp_path)
    folder = tmp_path / "new"
    folder.mkdir()
    for name in "abc":
        Image.new("RGB", (40, 40), "red").save(folder / f"{name}.png")
    (folder / "b.png").write_bytes(b"nothing")
    assert [one.path for one in model.explain(folder)] == ["a.png", "c.png"]


def test_what_is_not_linear_in_a_map_is_refused(small_sample, tmp_path):
    model = small_model(small_sample, tmp_path, "explained_double", layers=["penultimate"])
    with pytest.raises(BackboneError, match="penultimate of explained_double is neither a map nor the mean of one"):
        model.explain(small_sample / "test")
    (tmp_path / "map").mkdir()
    earlier = small_model(small_sample, tmp_path / "map", "explained_double", layers=["conv"])
    assert len(list(earlier.explain(small_sample / "test"))) == 15


class Patches(torch.nn.Module):
    """Patches of 8 pixels and a class token; each token learns of the mean of all."""

    def __init__(self, classed: bool = True) -> None:
        super().__init__()
        self.patch_embed = torch.nn.Conv2d(3, 6, 8, stride=8)
        self.cls_token = torch.nn.Parameter(torch.randn(1, 1, 6)) if classed else None
        self.blocks = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.GELU())
        self.norm = torch.nn.LayerNorm(6)
        self.head = torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1)
        x = self.norm(self.blocks(x + x.mean(1, keepdim=True)))
        return self.head(x[:, 0])


@pytest.mark.parametrize(("classed", "pooling"), [(True, "patches"), (False, "patches"), (False, "avg")])
@pytest.mark.parametrize("scale", ["shrunk", "l2"])
def test_patches_are_places(scale, classed, pooling, small_sample, tmp_path):
    register_backbone("explained_patches", lambda: Patches(classed), preprocessing=PLAIN, overwrite=True)
    model = small_model(small_sample, tmp_path, "explained_patches", layers=["norm"], pooling=pooling, scale=scale)
    backbone = load_backbone("explained_patches", "random")
    images = load_images(small_sample / "test", labelled=False)
    decision = model.decision_function(model.concatenated(model.compute_codes(images).codes))
    for one, values in zip(model.explain(images), decision, strict=True):
        (part,) = one.maps.values()
        assert part.mean() + one.constant == pytest.approx(one.decision, abs=1e-9)
        assert one.decision == pytest.approx(values.max() - (values.sum() - values.max()) / 2, abs=1e-4)
        pixels = torch.from_numpy(np.array(one.picture)).permute(2, 0, 1)[None]
        tokens = backbone.extractor(["norm"])(backbone.preprocessing.normalise(pixels))["norm"][0, int(classed) :]
        slope = model.coef[model.classes.index(one.label)] * 1.5 - model.coef.sum(0) / 2
        length = np.linalg.norm(tokens.mean(0).numpy())
        expected = tokens.numpy() @ (slope / model.deviation) / length
        np.testing.assert_allclose(part, expected.reshape(part.shape), atol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "cls+patches", "avg"])
def test_tokens_that_are_no_places_are_refused(pooling, small_sample, tmp_path):
    register_backbone("explained_patches", Patches, preprocessing=PLAIN, overwrite=True)
    model = small_model(small_sample, tmp_path, "explained_patches", layers=["norm"], pooling=pooling)
    with pytest.raises(
        BackboneError, match="made of all places of the image; extract the codes with pooling='patches'"
    ):
        model.explain(small_sample / "test")


def test_a_class_that_the_model_has_not_is_refused(small_sample, tmp_path):
    model = small_model(small_sample, tmp_path)
    with pytest.raises(SettingError, match=r"no class 'Sandel'.*Sandal"):
        model.explain(small_sample / "test", label="Sandel")
    for options in ({"against": "Bag"}, {"label": "Bag", "against": "Bag"}):
        with pytest.raises(SettingError, match="another class than `label`"):
            model.explain(small_sample / "test", **options)


def test_crops_are_refused(small_sample, tmp_path):
    model = small_model(small_sample, tmp_path, views="10crop")
    with pytest.raises(SettingError, match="10crop"):
        model.explain(small_sample / "test")


def test_the_default_network_says_where(sample_codes, small_sample):
    """The embedded weights: penultimate is the mean of layer4."""
    model = fit(sample_codes, C=0.01)
    for one in model.explain(small_sample / "test" / "Bag"):
        assert [one.maps["penultimate"].shape, one.picture.shape] == [(7, 7), (224, 224, 3)]
        assert one.maps["penultimate"].mean() + one.constant == pytest.approx(one.decision, abs=1e-9)
