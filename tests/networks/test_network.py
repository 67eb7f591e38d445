"""A network that can be built: the choice of its weights, random parameters, its head."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_network import PLAIN, Tiny

from cnncodes.errors import BackboneError, WeightsError
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.registry import register_backbone


def test_random_weights_are_seeded_and_leave_the_callers_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load_backbone("squeezenet1_1", "random")
    assert torch.equal(torch.rand(3), expected)
    second = load_backbone("squeezenet1_1", "random")
    assert first.weights == "random"
    assert len(first.weights_sha256) == 64
    assert first.weights_sha256 == second.weights_sha256
    assert first.weights_sha256 != load_backbone("squeezenet1_0", "random").weights_sha256
    assert (first.licence, first.categories) == (None, None)


def test_random_weights_are_seeded_in_several_threads_too() -> None:
    expected = load_backbone("squeezenet1_1", "random").weights_sha256
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda _: load_backbone("squeezenet1_1", "random").weights_sha256, range(12)))
    assert set(digests) == {expected}
    assert torch.equal(torch.get_rng_state(), state)


def test_the_random_state_of_gpus_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    load_backbone("squeezenet1_1", "random")
    assert not seeds


def test_unknown_weights_get_the_nearest_ones() -> None:
    with pytest.raises(
        WeightsError, match=r"no weights 'IMAGENET1K_V3', and there is no such file\. Did you mean 'IMAGENET1K_V"
    ):
        load_backbone("resnet50", "IMAGENET1K_V3")


def test_a_head_that_is_not_there_is_an_error() -> None:
    from cnncodes.networks import registry as zoo

    register_backbone("headless", Tiny, preprocessing=PLAIN, head="nothing", overwrite=True)
    try:
        with pytest.raises(BackboneError, match=r"headless: the head 'nothing' is no module .*head=PATH"):
            load_backbone("headless")
    finally:
        zoo.registered_networks.pop("headless")
