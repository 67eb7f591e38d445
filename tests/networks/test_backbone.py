"""A backbone gives its layers: at other image sizes, and as its extractor has them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cnncodes.errors import BackboneError
from cnncodes.networks.backbone import Backbone
from cnncodes.networks.loading import load_backbone


@pytest.fixture(scope="module")
def mobilenet() -> Backbone:
    return load_backbone()


def test_another_image_size_is_checked_when_it_is_set(mobilenet: Backbone) -> None:
    larger = replace(mobilenet, preprocessing=mobilenet.preprocessing.override(320))
    assert next(row for row in larger.list_layers() if row.name == "layer4").map_shape == (1280, 10, 10)
    alexnet = load_backbone("alexnet", "random")
    with pytest.raises(BackboneError, match="alexnet cannot take images of 32 × 32 px"):
        replace(alexnet, preprocessing=alexnet.preprocessing.override(32))


def test_the_table_of_layers_says_what_the_extractor_gives(mobilenet: Backbone) -> None:
    rows = mobilenet.list_layers()
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


def test_a_module_path_is_named_where_there_is_no_such_layer() -> None:
    pytest.importorskip("timm")
    with pytest.raises(BackboneError, match=r"module paths such as blocks\.\d+;"):
        load_backbone("timm:vit_tiny_patch16_224", "random").resolve("last4")
