"""What is not asked for is as it was made, or has its default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cnncodes.codes.file import CodesFile
from cnncodes.codes.provenance import Provenance, refuse_mismatch
from cnncodes.errors import MismatchError
from cnncodes.extraction.settings import (
    Settings,
    build_network,
    describe_network,
    fill_in,
    inherited,
    provenance_of,
    settings_of,
)

LAYERS = ("layer1", "layer2", "layer3", "layer4", "penultimate")


@pytest.fixture(scope="module")
def provenance(sample_codes: Path) -> Provenance:
    with CodesFile.open(sample_codes) as file:
        return file.provenance


def test_one_layer_is_a_tuple_of_one() -> None:
    assert Settings(layers="layer1").layers == ("layer1",)


def test_the_settings_of_a_file_are_those_that_it_was_made_with(provenance: Provenance) -> None:
    assert settings_of(provenance) == Settings(
        backbone="mobilenet_v2",
        weights="IMAGENET1K_V1",
        layers=LAYERS,
        maps=(),
        pooling="avg",
        image_size=224,
        resize="crop",
        views="none",
        precision="fp32",
        device="cpu",
        batch_size=provenance.runtime.batch_size,
        dtype="auto",
        exact_decode=False,
        ignore_profiles=False,
        compile=False,
        allow_partial=False,
        leading=0,
    )


@pytest.mark.parametrize("name", ["backbone", "dtype", "preprocessing.mode", "runtime.compiled"])
def test_a_file_that_lacks_a_setting_is_refused(provenance: Provenance, name: str) -> None:
    fields = provenance.to_dict()
    first, _, second = name.partition(".")
    del (fields[first] if second else fields)[second or first]
    with pytest.raises(MismatchError, match=f"lacks '{name}'"):
        settings_of(Provenance.from_dict(fields))


def test_what_is_not_asked_for_is_as_it_was_made(provenance: Provenance) -> None:
    settings = Settings(pooling="max", layers=["features.3", "layer1"])
    assert fill_in(settings, None) is settings
    other = Settings(backbone="resnet18")
    assert fill_in(other, provenance) is other
    expected = replace(settings_of(provenance), pooling="max", layers=(*LAYERS, "features.3"))
    assert fill_in(settings, provenance) == expected


def test_maps_add_to_those_of_the_file(provenance: Provenance) -> None:
    old = replace(provenance, maps={"layer3": (96, 14, 14)})
    assert fill_in(Settings(), old).maps == ("layer3",)
    assert fill_in(Settings(maps="layer4"), old).maps == ("layer3", "layer4")
    assert fill_in(Settings(maps=["layer3"]), provenance).maps == ("layer3",)


def test_a_file_of_before_colour_profiles_were_heeded_goes_on_without_them(provenance: Provenance) -> None:
    fields = provenance.to_dict()
    del fields["preprocessing"]["ignore_profiles"]
    older = Provenance.from_dict(fields)
    network = build_network(fill_in(Settings(), older))
    assert network.backbone.preprocessing.ignore_profiles
    assert describe_network(network).preprocessing == older.preprocessing
    with pytest.raises(MismatchError, match="ignore_profiles is True, asked False"):
        refuse_mismatch(Path("codes.h5"), older, provenance)


def test_a_network_that_is_built_by_settings_describes_itself_by_them(provenance: Provenance) -> None:
    settings = replace(settings_of(provenance), layers=("layer2",), pooling="max", resize="pad", views="flip")
    network = build_network(settings)
    description = describe_network(network)
    assert settings_of(description) == settings
    assert description.only([]) == replace(
        provenance.only([]),
        pooling="max",
        preprocessing=replace(provenance.preprocessing, mode="pad", views="flip"),
    )


def test_a_note_names_what_was_taken_from_the_file(provenance: Provenance) -> None:
    network = build_network(Settings())
    path, usual = Path("codes.h5"), (network.backbone.default_layers, network.backbone.default_pooling)
    assert inherited(path, Settings(), None, *usual) == []
    assert inherited(path, Settings(), provenance, *usual) == []
    squashed = replace(
        provenance.only(["layer1"]),
        pooling="gem",
        preprocessing=replace(provenance.preprocessing, mode="squash", exact=True),
    )
    assert inherited(path, Settings(pooling="gem"), squashed, *usual) == [
        "as codes.h5 was made: layers=('layer1',) resize='squash' exact_decode=True"
    ]


def test_there_is_no_provenance_without_a_file(tmp_path: Path, sample_codes: Path, provenance: Provenance) -> None:
    assert provenance_of(tmp_path / "codes.h5") is None
    assert provenance_of(sample_codes) == provenance


def test_a_vision_transformer_is_read_by_its_class_token_and_a_file_of_averages_stays_one(tmp_path: Path) -> None:
    """The pooling that a file has counts; another one is refused by name."""
    pytest.importorskip("timm")
    new = Settings(backbone="timm:test_vit", weights="random", image_size=64, precision="fp32", device="cpu")
    network = build_network(new)
    now = describe_network(network)
    assert (now.pooling, set(network.layers)) == ("cls", set(LAYERS))
    averaged = describe_network(build_network(replace(new, pooling="avg")))
    assert fill_in(Settings(), averaged).pooling == "avg"
    assert "pooling='avg'" in inherited(tmp_path, Settings(), averaged, LAYERS, "cls")[0]
    with pytest.raises(MismatchError, match="pooling is 'avg', asked 'cls'"):
        refuse_mismatch(tmp_path, averaged, now)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        x = network.backbone.preprocessing.normalise(pixels)
        tokens = network.backbone.module.forward_intermediates(
            x, [2], norm=True, intermediates_only=True, output_fmt="NLC", return_prefix_tokens=True
        )
    np.testing.assert_allclose(network.unrounded(pixels)["layer2"], tokens[0][1][:, 0], rtol=1e-4, atol=1e-5)
