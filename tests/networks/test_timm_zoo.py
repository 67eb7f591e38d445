"""The networks of timm: their weights, their keys, and how they are listed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cnncodes.errors import MissingLibraryError
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.registry import find_network, list_backbones


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
