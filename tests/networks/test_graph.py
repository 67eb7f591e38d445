"""The traced graph: by which names a layer is known, and what lies above it."""

from __future__ import annotations

from tiny_network import Staged, own

from cnncodes.networks.graph import Graph
from cnncodes.networks.loading import load_backbone


def test_layer_is_called_by_the_name_that_users_know():
    graph = Graph.of(load_backbone("mobilenet_v2"))
    assert graph is not None
    names = {"features.14:input": "layer3", "features.15.conv.0.0:input": "features.14", "features.0.0:input": "pixels"}
    assert {name: graph.plainest_name(name) for name in names} == names
    assert {"layer3", "features.13", "features.14:input"} <= graph.names_of("layer3")


def test_cut_separates_what_is_above_from_what_is_below():
    graph = Graph.of(own(Staged))
    assert graph is not None
    above = graph.parameters_above("layer2")
    assert above is not None
    assert {name.partition(".")[0] for name in above} == {"layer3", "layer4"}
    assert graph.separates("layer2", above)
    assert not graph.separates("layer3", above)
    assert graph.parameters_above("penultimate") == set()
