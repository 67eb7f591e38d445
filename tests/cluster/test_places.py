"""GPUs before processors, what is free of a node, and networks that do not agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plain_codes import PROVENANCE
from tiny_network import PLAIN
from worker_threads import node

from cnncodes.cluster.places import kind_of, mismatch, places_of
from cnncodes.cluster.worker import Ready
from cnncodes.errors import SettingError
from cnncodes.extraction.engine import NetworkFacts

LEAD = Ready(NetworkFacts(PROVENANCE, PLAIN, ("layer1",), "avg"), (), "0" * 64, "Xeon")


def test_gpus_are_used_where_any_node_has_one() -> None:
    nodes = [node("a", 4), node("b", 8, 2)]
    assert kind_of(None, nodes) == kind_of("auto", nodes) == "cuda"
    assert kind_of("auto", nodes[:1]) == "cpu"
    assert kind_of("cpu", nodes) == "cpu"
    with pytest.raises(SettingError, match="device='mps': on a cluster it is auto, cpu, cuda"):
        kind_of("mps", nodes)
    with pytest.raises(SettingError, match="device='cuda': no machine of the cluster has a GPU; leave it out"):
        kind_of("cuda", nodes[:1])


def test_a_node_has_a_place_for_each_gpu_or_one_for_its_processors() -> None:
    places, reason = places_of(node("b", 9, 2), "cuda")
    assert [(place.device, place.cpus, place.gpus) for place in places] == [("cuda", 4, 1)] * 2
    assert not reason
    places, _ = places_of(node("b", 9.5, 2), "cpu")
    assert [(place.device, place.cpus, place.gpus) for place in places] == [("cpu", 9, 0)]


def test_what_others_use_is_left_to_them() -> None:
    places, _ = places_of(node("a", 3, all_cpus=8), "cpu")
    assert [place.cpus for place in places] == [3]
    assert places_of(node("a", 0, all_cpus=8), "cpu") == ([], "others use its 8 processors")
    assert places_of(node("a", 4, 0, all_gpus=1), "cuda") == ([], "others use its 1 GPU")


def test_a_node_without_a_gpu_takes_part_only_if_mixed() -> None:
    assert places_of(node("a", 4), "cuda") == ([], "it has no GPU; mixed_nodes=True uses its processors, too")
    places, _ = places_of(node("a", 4), "cuda", mixed=True)
    assert [place.device for place in places] == ["cpu"]


def test_other_weights_and_versions_are_named() -> None:
    assert mismatch(LEAD, LEAD) == ""
    other = replace(PROVENANCE, weights_sha256="a" * 64, versions={"torch": "1.0"})
    words = mismatch(LEAD, replace(LEAD, facts=replace(LEAD.facts, provenance=other)), mixed=True)
    assert "weights_sha256 is 'aaaa" in words
    assert "versions" in words


def test_another_processor_is_allowed_if_mixed() -> None:
    other = replace(LEAD, photo_digest="1" * 64, processor="EPYC")
    words = mismatch(LEAD, other)
    assert words.startswith("its processor (EPYC, not Xeon) rounds otherwise")
    assert words.endswith("mixed_nodes=True allows that")
    assert mismatch(LEAD, other, mixed=True) == ""
