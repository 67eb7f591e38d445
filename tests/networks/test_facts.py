"""Facts about networks that cannot be read off them, and what the tables make of names."""

from __future__ import annotations

import pytest

from cnncodes.networks.facts import TIMM_FACTS, facts_of
from cnncodes.networks.loading import load_backbone


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
