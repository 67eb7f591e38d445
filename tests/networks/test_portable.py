"""Registered networks that travel with a pickle: which go along, which is used, and what is said if one does not."""

from __future__ import annotations

import threading

import pytest
from tiny_network import PLAIN, Tiny
from torch import nn

from cnncodes.errors import BackboneError
from cnncodes.networks import portable, registry
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.portable import pack_networks, unpack_networks
from cnncodes.networks.registry import list_backbones, register_backbone


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nothing is registered."""
    monkeypatch.setattr(registry, "registered_networks", own := {})
    monkeypatch.setattr(registry, "arrived_networks", arrived := {})
    monkeypatch.setattr(portable, "registered_networks", own)
    monkeypatch.setattr(portable, "arrived_networks", arrived)
    monkeypatch.setattr(portable, "_bytes_of_arrived", {})


def register(name: str, *, bias: float = 0.0, ballast: object = None) -> None:
    def build() -> nn.Module:
        network = Tiny()
        nn.init.constant_(next(network.parameters()), bias if ballast is None else 0.0)
        return network

    register_backbone(name, build, preprocessing=PLAIN, licence="MIT")


def leave() -> None:
    """Go to another process."""
    portable.registered_networks.clear()
    portable.arrived_networks.clear()
    portable._bytes_of_arrived.clear()


def test_a_network_arrives_whole_and_goes_on_from_there() -> None:
    assert pack_networks("mine") == {}
    register("mine", bias=2.0)
    here = load_backbone("mine")
    packed = pack_networks("mine")
    leave()
    with pytest.raises(BackboneError, match=r"no backbone 'mine'.* your own is registered in each process"):
        load_backbone("mine")
    unpack_networks(packed, "mine")
    there = load_backbone("mine")
    assert there.weights_sha256 == here.weights_sha256
    assert (there.licence, there.preprocessing) == ("MIT", PLAIN)
    assert list_backbones("mine")[0].source == "user"
    assert pack_networks("mine") == packed


def test_a_network_that_is_registered_here_goes_before_one_that_arrives() -> None:
    register("mine", bias=2.0)
    packed = pack_networks("mine")
    leave()
    unpack_networks(packed)
    register("mine", bias=3.0)  # no network that is in the way
    own = load_backbone("mine").weights_sha256
    unpack_networks(packed, "mine")
    assert load_backbone("mine").weights_sha256 == own
    with pytest.raises(BackboneError, match="already"):
        register("mine")


def test_of_two_pickles_each_gets_its_network() -> None:
    digests, packs = [], []
    for bias in (1.0, 2.0):
        register("mine", bias=bias)
        digests.append(load_backbone("mine").weights_sha256)
        packs.append(pack_networks("mine"))
        leave()
    assert digests[0] != digests[1]
    for i in (0, 1, 0):
        unpack_networks(packs[i], "mine")
        assert load_backbone("mine").weights_sha256 == digests[i]


def test_other_networks_go_along_if_they_are_small() -> None:
    register("light")
    register("heavy", ballast=bytes(200_000))
    assert pack_networks("mobilenet_v2").keys() == {"light"}
    assert pack_networks("heavy").keys() == {"light", "heavy"}


def test_a_network_that_cannot_be_pickled_or_read_is_named_where_it_is_used() -> None:
    register("locked", ballast=threading.Lock())
    register("light")
    assert pack_networks("light").keys() == {"light"}
    packed = pack_networks("locked")
    leave()
    unpack_networks(packed)
    words = (
        r"'locked' did not come with the estimator \(it cannot be pickled: .*\); call register_backbone\('locked', …\)"
    )
    with pytest.raises(BackboneError, match=words):
        unpack_networks(packed, "locked")
    with pytest.raises(BackboneError, match=r"'mine' did not come .*it cannot be read here"):
        unpack_networks({"mine": b"not a pickle"}, "mine")
    register("locked")
    unpack_networks(packed, "locked")
