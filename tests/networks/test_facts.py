"""Facts about networks that cannot be read off them, and what the tables make of names."""

from __future__ import annotations

import pytest

from cnncodes.networks.facts import TIMM_FACTS, facts_of
from cnncodes.networks.loading import load_backbone


@pytest.mark.parametrize(("name", "n_blocks"), [("lite0", 16), ("lite1", 21), ("lite2", 21)])
def test_the_keys_of_efficientnet_lite_map_one_to_one(name: str, n_blocks: int) -> None:
    pytest.importorskip("timm")
    keys = facts_of(TIMM_FACTS, f"tf_efficientnet_{name}").keys
    assert keys.rename("_conv_stem.weight") == "conv_stem.weight"
    assert keys.rename("_bn1.running_var") == "bn2.running_var"
    assert keys.rename("_blocks.0._project_conv.weight") == "blocks.0.0.conv_pw.weight"
    assert keys.rename("_blocks.2._bn0.bias") == "blocks.1.1.bn1.bias"
    assert keys.rename(f"_blocks.{n_blocks - 1}._project_conv.weight") == "blocks.6.0.conv_pwl.weight"
    own = load_backbone(f"timm:tf_efficientnet_{name}", "random").module.state_dict()
    assert all(keys.rename(key) == key for key in own)  # timm's own files pass unchanged
    ends = [keys.rename(f"_blocks.{i}._bn2.weight") for i in range(1, n_blocks)]
    assert [keys.rename("_blocks.0._bn2.weight"), *ends] == [
        key for key in own if key.endswith(".bn3.weight") or key == "blocks.0.0.bn2.weight"
    ]
