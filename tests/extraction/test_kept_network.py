"""A network is prepared once for whoever owns the codes, shared by threads, and freed with its owner."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import cnncodes.extraction.kept_network
from cnncodes import CNNCodes, CodesFile, ProbeModel, evaluate, fit, load_images, similar
from cnncodes.errors import MismatchError
from cnncodes.extraction.kept_network import ready_network
from cnncodes.extraction.settings import Settings, build_network
from cnncodes.runtime.frozen_network import FrozenNetwork
from cnncodes.runtime.workload import MIN_IMAGES_TO_COMPILE, Workload

LAYER1 = Settings(layers="layer1", image_size=32, precision="fp32")


class Owner:
    """Anything that can be referred to weakly."""


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[FrozenNetwork]]:
    """The networks that are built from now on."""
    networks: list[weakref.ref[FrozenNetwork]] = []

    def build(*arguments: Any, **options: Any) -> FrozenNetwork:
        network = build_network(*arguments, **options)
        networks.append(weakref.ref(network))
        return network

    monkeypatch.setattr(cnncodes.extraction.kept_network, "build_network", build)
    return networks


def alive(networks: list[weakref.ref[FrozenNetwork]]) -> list[bool]:
    gc.collect()
    return [network() is not None for network in networks]


@pytest.fixture(scope="module")
def model(sample_codes: Path) -> ProbeModel:
    return fit(sample_codes, C=0.01)


@pytest.fixture(scope="module")
def bag(small_sample: Path) -> Path:
    return next(iter(sorted((small_sample / "test" / "Bag").iterdir())))


def test_the_network_is_kept_until_its_owner_is_gone_or_runs_another(
    built: list[weakref.ref[FrozenNetwork]],
) -> None:
    owner, other = Owner(), Owner()
    first = ready_network(LAYER1, owner=owner)
    assert ready_network(Settings(layers="layer1", image_size=32, precision="fp32"), owner=owner) is first
    assert ready_network(LAYER1, owner=other) is not first
    assert ready_network(LAYER1) is not first
    del first
    assert alive(built) == [True, True, False]
    ready_network(Settings(layers="layer2", image_size=32, precision="fp32"), owner=owner)
    assert alive(built) == [False, True, False, True]
    del owner, other
    assert alive(built) == [False] * 4


def test_a_network_that_had_to_halve_its_batches_is_built_anew(built: list[weakref.ref[FrozenNetwork]]) -> None:
    owner = Owner()
    first = ready_network(LAYER1, owner=owner)
    size = first.batch_size
    first._halve(size)
    assert first.batch_size < size
    assert ready_network(LAYER1, owner=owner).batch_size == size
    assert len(built) == 2


def test_a_network_that_cannot_be_built_is_not_kept(built: list[weakref.ref[FrozenNetwork]]) -> None:
    owner = Owner()
    for _ in range(2):
        with pytest.raises(Exception, match="no layer"):
            ready_network(Settings(layers="layer9"), owner=owner)
    assert ready_network(LAYER1, owner=owner).layers.keys() == {"layer1"}


def test_compiling_is_decided_for_each_workload_and_both_networks_are_kept(
    built: list[weakref.ref[FrozenNetwork]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnncodes.runtime.workload.seconds_saved", lambda *_, **options: 1000.0)
    owner, many = Owner(), Workload(MIN_IMAGES_TO_COMPILE, 1)
    few = ready_network(LAYER1, Workload(1), owner=owner)
    assert not few.plan.compiled
    fast = ready_network(LAYER1, many, owner=owner)
    assert fast.plan.compiled
    assert "would save about 1000 s" in fast.plan.reason
    assert ready_network(LAYER1, Workload(1), owner=owner) is few, "the codes of one image depended on what came before"
    assert ready_network(LAYER1, many, owner=owner) is fast
    assert len(built) == 1


def test_threads_share_one_network_and_get_the_bits_of_one(
    built: list[weakref.ref[FrozenNetwork]], model: ProbeModel, small_sample: Path
) -> None:
    paths = sorted((small_sample / "test").rglob("*.png"))
    fresh = [copy.deepcopy(model).predict_images(path) for path in paths]
    built.clear()
    shared, start = copy.deepcopy(model), threading.Barrier(4)

    def predict(number: int) -> list[Any]:
        start.wait()
        return [shared.predict_images(path) for path in paths[number::4]]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(predict, range(4)))
    assert answers == [fresh[number::4] for number in range(4)]
    assert len(built) == 1


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_of_a_model_begin_without_its_network(
    copied: Callable[[Any], Any], built: list[weakref.ref[FrozenNetwork]], model: ProbeModel, bag: Path
) -> None:
    size = len(pickle.dumps(model))
    one = copied(model)
    expected = one.predict_images(bag)
    assert expected == one.predict_images(bag)
    assert len(built) == 1
    assert len(pickle.dumps(one)) == size
    again = copied(one)
    assert again.predict_images(bag) == expected
    assert len(built) == 2
    del one, again
    assert alive(built) == [False, False]


def test_a_loaded_model_prepares_its_network_once_whatever_it_is_asked(
    built: list[weakref.ref[FrozenNetwork]], model: ProbeModel, small_sample: Path, bag: Path
) -> None:
    one = copy.deepcopy(model)
    everything = {answer.path: answer for answer in one.predict_images(small_sample / "test")}
    (alone,) = one.predict_images(bag)
    assert alone.guess == everything[f"Bag/{bag.name}"].guess
    assert alone.probability == everything[f"Bag/{bag.name}"].probability
    assert evaluate(small_sample / "test", one).accuracies.accuracy.value == 1.0
    images = load_images(bag)
    np.testing.assert_array_equal(
        one.compute_codes(images).codes["penultimate"], one.compute_codes(images, workers=2).codes["penultimate"]
    )
    assert len(built) == 1


def test_what_a_model_refuses_it_refuses_with_its_network_ready(model: ProbeModel, bag: Path) -> None:
    one = copy.deepcopy(model)
    one.predict_images(bag)
    provenance = one.provenance
    one.provenance = provenance.from_dict({**provenance.to_dict(), "weights_sha256": "ab" * 32})
    with pytest.raises(MismatchError, match="SHA-256"):
        one.predict_images(bag)


def test_an_opened_file_keeps_the_network_for_its_queries(
    built: list[weakref.ref[FrozenNetwork]], sample_codes: Path, bag: Path
) -> None:
    expected = similar(bag, sample_codes, k=3)
    assert alive(built) == [False]
    with CodesFile.open(sample_codes) as file:
        assert similar(bag, file, k=3) == expected == similar(bag, file, k=3)
        assert len(file.labels) == 45, "it was closed"
    assert len(built) == 2
    del file
    assert alive(built) == [False, False]


@pytest.mark.parametrize("cached", [False, True])
def test_a_transformer_prepares_its_network_once(
    cached: bool, built: list[weakref.ref[FrozenNetwork]], tmp_path: Path
) -> None:
    shades = [Image.new("RGB", (40, 40), (shade, 0, 0)) for shade in range(0, 250, 50)]
    codes = CNNCodes(layer="layer1", cache=tmp_path / "codes.h5" if cached else None).fit(shades[:1])
    rows = [codes.transform([shade]) for shade in shades]
    assert len(built) == 1 + cached, "once, and once by the settings that a new cache records"
    np.testing.assert_array_equal(np.concatenate(rows), CNNCodes(layer="layer1").fit_transform(shades))
    assert "network" not in " ".join(vars(codes))
    del codes
    assert not any(alive(built))


def test_a_transformer_with_other_parameters_gets_another_network() -> None:
    image = [Image.new("RGB", (40, 40), (200, 0, 0))]
    codes = CNNCodes(layer="layer1").fit(image)
    assert codes.transform(image).shape == (1, 24)
    codes.set_params(layer="layer2")
    np.testing.assert_array_equal(codes.transform(image), CNNCodes(layer="layer2").fit_transform(image))


def test_a_transformer_that_is_fitted_again_reads_its_weights_again(tmp_path: Path) -> None:
    image, path = [Image.new("RGB", (40, 40), (200, 0, 0))], tmp_path / "mine.pth"
    network = torchvision.models.mobilenet_v2(weights=None)
    torch.save(network.state_dict(), path)
    codes = CNNCodes(weights=str(path), layer="layer1").fit(image)
    before = codes.transform(image)
    with torch.no_grad():
        network.features[0][0].weight.mul_(2.0).add_(0.1)
    torch.save(network.state_dict(), path)
    np.testing.assert_array_equal(codes.transform(image), before)
    after = codes.fit(image).transform(image)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, CNNCodes(weights=str(path), layer="layer1").fit_transform(image))
