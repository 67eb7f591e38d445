"""Facts about networks that cannot be read off them, and what the tables make of names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from cnncodes.networks.backbone import load_backbone
from cnncodes.networks.facts import TIMM_FACTS, facts_of
from cnncodes.networks.registry import find_network


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
