"""Which classes a head has, and which of them a label means."""

from __future__ import annotations

import pytest
from tiny_network import UNCROPPED, Straight
from torchvision.models import ResNet18_Weights

from cnncodes.errors import MissingLibraryError
from cnncodes.networks import class_names as module
from cnncodes.networks.class_names import ClassNames, class_names
from cnncodes.networks.loading import load_backbone
from cnncodes.networks.registry import register_backbone

NAMES = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]


@pytest.fixture(scope="module")
def imagenet() -> ClassNames:
    names = class_names(load_backbone("mobilenet_v2"))
    assert names is not None
    return names


def test_each_name_of_imagenet_means_its_own_class_alone(imagenet: ClassNames) -> None:
    assert list(imagenet.names) == NAMES
    assert [imagenet.of_label(name) for name in NAMES] == [[i] for i in range(1000)]


@pytest.mark.parametrize("label", ["Great White Shark", "great_white_shark", "great-white-SHARK"])
def test_a_label_may_be_written_otherwise(imagenet: ClassNames, label: str) -> None:
    assert imagenet.of_label(label) == [2]


def test_an_ambiguous_label_means_several_classes_and_a_foreign_one_none(imagenet: ClassNames) -> None:
    assert [NAMES[i] for i in imagenet.of_label("CARDIGAN")] == ["Cardigan", "cardigan"]
    assert [NAMES[i] for i in imagenet.of_label("cardigan")] == ["cardigan"]
    assert imagenet.of_label("flower") == []


def test_wordnet_ids_and_synonyms_are_known_where_timm_is(
    imagenet: ClassNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pytest.importorskip("timm.data")
    synsets = data.ImageNetInfo("imagenet-1k").label_names()
    assert [imagenet.of_label(synset) for synset in synsets] == [[i] for i in range(1000)]
    assert imagenet.of_label("Tinca_tinca") == [NAMES.index("tench")]
    assert NAMES[imagenet.of_label("n03877845")[0]] == "palace"  # WordNet's own number

    def missing(subset: str | None) -> None:
        raise MissingLibraryError("no timm")

    monkeypatch.setattr(module, "_synsets", missing)
    without = ClassNames(imagenet.names, imagenet.subset)
    assert (without.of_label("n03877845"), without.of_label("tench")) == ([], [0])


def test_classes_of_timm_are_those_that_its_weights_were_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    backbone = load_backbone("timm:resnet10t", "random")
    assert class_names(backbone) is None  # nobody has trained these
    published = timm.get_pretrained_cfg("resnet10t").tag
    object.__setattr__(backbone, "weights", published)
    names = class_names(backbone)
    assert names is not None
    assert list(names.names) == NAMES


@pytest.mark.parametrize("subset", ["imagenet-12k", "imagenet-22k-ms", "imagenet-21k-goog"])
def test_each_of_the_larger_sets_has_as_many_names(subset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pytest.importorskip("timm.data")
    monkeypatch.setattr(module, "_timm_subset", lambda backbone: subset)
    names = class_names(load_backbone("timm:resnet10t", "random"))
    assert names is not None
    assert len(set(names.names)) == len(names.names) == data.ImageNetInfo(subset).num_classes()


def test_names_of_ones_own_network_are_told_apart() -> None:
    named = ("crane", "tench", "crane", "a", "b")
    register_backbone("own", lambda: Straight(False), preprocessing=UNCROPPED, categories=named, overwrite=True)
    names = class_names(load_backbone("own"))
    assert names == ClassNames(("crane (0)", "tench", "crane (2)", "a", "b"))
