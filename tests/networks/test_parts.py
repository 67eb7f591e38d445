"""Parts of a network by name and by the order of use."""

from __future__ import annotations

import pytest
from tiny_network import Staged, own

from cnncodes.errors import BackboneError
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.parts import Parts


def test_parameters_are_used_in_the_order_of_computation():
    parts = Parts(own(Staged))
    stages = [name.partition(".")[0] for name in sorted(parts.first_use, key=parts.first_use.__getitem__)]
    assert stages == sorted(stages)
    assert set(stages) == {"layer1", "layer2", "layer3", "layer4"}  # the head is none of them
    assert {name.partition(".")[0] for name in parts.above("layer2")} == {"layer3", "layer4"}
    assert parts.above("pixels") == parts.first_use.keys()
    assert parts.above("penultimate") == set()


def test_parameters_of_a_module_that_is_never_called_belong_to_the_one_around_it():
    """`nn.MultiheadAttention` takes the weight of its last layer without calling that."""
    parts = Parts(load_backbone("vit_b_16", "random"))
    attention = "encoder.layers.encoder_layer_11.self_attention"
    assert parts.first_use[f"{attention}.out_proj.weight"] == parts.first_use[f"{attention}.in_proj_weight"]
    assert parts.first_use["class_token"] == 0
    assert f"{attention}.out_proj.weight" in parts.above("encoder.layers.encoder_layer_11:input")


def test_stage_ends_where_the_next_one_begins():
    parts = Parts(load_backbone("mobilenet_v2"))
    blocks = {name.split(".")[1] for name in parts.named(["layer3"])}
    assert blocks == {str(i) for i in range(7, 14)}
    assert parts.named(["features.1?"]) == {
        name for name in parts.first_use if name.startswith("features.1") and name[10] != "."
    }
    assert parts.named([]) == set()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer7", r"has no part 'layer7'\. Did you mean 'layer4'"),
        ("features.44", r"has no part 'features.44'\. Did you mean 'features.4'"),
        ("features.18.2", "has nothing to train in 'features.18.2'"),
        ("classifier", "or is the head, where the probe is now"),
    ],
)
def test_name_that_stands_for_nothing_is_an_error_that_suggests_others(name, message):
    with pytest.raises(BackboneError, match=message):
        Parts(load_backbone("mobilenet_v2")).named([name])
