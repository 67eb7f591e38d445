"""A pretrained network with its own head answers as the plain network does."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_network import UNCROPPED, Staged, Tiny
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from cnncodes import load_images, predict, register_backbone
from cnncodes.errors import BackboneError, SettingError, WeightsError
from cnncodes.models.pretrained import PretrainedNetwork
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

KINDS = ["alexnet", "googlenet", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18"]
KINDS += ["shufflenet_v2_x0_5", "swin_t", "timm:resnet10t", "timm:deit_tiny_patch16_224"]


def test_photographs_get_the_labels_of_plain_torchvision(photos: Path) -> None:
    paths = sorted(photos.rglob("0.png"))
    module = mobilenet_v2().eval()
    module.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    weights = MobileNet_V2_Weights.IMAGENET1K_V1
    with torch.no_grad():
        batch = torch.stack([weights.transforms()(Image.open(path)) for path in paths])
        values, places = module(batch).softmax(dim=1).max(dim=1)
    answers = predict(paths, "imagenet")
    assert [one.label for one in answers] == [weights.meta["categories"][i] for i in places.tolist()]
    assert answers[0].label == "palace"
    np.testing.assert_allclose([one.probability for one in answers], values, atol=3e-3)
    assert {(one.novelty, one.status) for one in answers} == {(None, "labelled")}
    (unsure,) = predict(paths[0], "imagenet", min_confidence=0.9)
    assert (unsure.label, unsure.guess, unsure.status) == (None, "palace", "unsure")
    with pytest.raises(SettingError, match="from 0 to 1"):
        predict(paths, "imagenet", min_confidence=90)


def assert_as_plain(name: str) -> None:
    network = PretrainedNetwork(name, "random" if name != "own" else None)
    side, resize = network.backbone.preprocessing.image_size, network.backbone.preprocessing.resize
    pixels = np.random.default_rng(0).integers(0, 256, (3, resize, resize, 3), dtype=np.uint8)
    _, scores = network.answer(load_images(pixels))  # of that size, they are only cropped
    first = round((resize - side) / 2)
    crops = torch.from_numpy(pixels[:, first : first + side, first : first + side]).permute(0, 3, 1, 2)
    batch = network.backbone.preprocessing.normalise(crops)
    expected = network.backbone.module(batch).flatten(1).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())
    assert network.names.names == tuple(map(str, range(expected.shape[1])))


def test_a_head_that_is_a_convolution_and_one_of_ones_own_answer_as_they_are() -> None:
    assert_as_plain("squeezenet1_1")
    register_backbone("own", Staged, preprocessing=UNCROPPED, overwrite=True)
    assert_as_plain("own")


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_networks_of_all_kinds_answer_as_they_are(name: str) -> None:
    assert_as_plain(name)


def test_networks_whose_answer_is_no_layer_or_that_have_no_classes_are_refused() -> None:
    register_backbone("own", Tiny, preprocessing=UNCROPPED, overwrite=True)
    with pytest.raises(BackboneError, match="no output of one layer"):
        PretrainedNetwork("own")

    class Headless(Staged):
        num_classes = 0  # as timm says it

    register_backbone("own", Headless, preprocessing=UNCROPPED, overwrite=True)
    with pytest.raises(BackboneError, match="no classes of its own"):
        PretrainedNetwork("own")
    register_backbone("own", Staged, preprocessing=UNCROPPED, categories=["a", "b"], overwrite=True)
    with pytest.raises(BackboneError, match="5 classes, and 2 names"):
        PretrainedNetwork("own")
    with pytest.raises(WeightsError, match="no weights 'IMAGENET'"):
        predict("photos", "imagenet", weights="IMAGENET")


def test_what_is_not_known_of_the_classes_is_said(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cnncodes"):
        (one,) = predict(photos / "china" / "0.png", "imagenet", backbone="squeezenet1_1", weights="random")
    assert str(one.label).isdigit()
    assert "the names of the 1,000 classes of squeezenet1_1 are not known" in caplog.text
    assert "weights of squeezenet1_1 are random" in caplog.text


def test_a_folder_of_that_name_changes_nothing_and_a_file_is_mentioned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    assert PretrainedNetwork().notes == []
    (tmp_path / "imagenet").rmdir()
    (tmp_path / "imagenet").touch()
    assert PretrainedNetwork().notes == [
        "imagenet means the network's own classes; a model file of that name is ./imagenet"
    ]
