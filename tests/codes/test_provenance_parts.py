"""The parts of a provenance: written with the order and the unknown fields that they were read with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cnncodes.codes.provenance_parts import (
    LayerProvenance,
    PreprocessingProvenance,
    RuntimeProvenance,
    ShardProvenance,
    differences,
)
from cnncodes.errors import MismatchError

LAYER = {"stride": 8, "pooling": "avg", "map_shape": [32, 8, 8], "n_features": 32}


def test_order_and_unknown_fields_are_kept() -> None:
    layer = LayerProvenance.from_dict(LAYER)
    assert (layer.n_features, layer.pooling, layer.map_shape, layer.dtype) == (32, "avg", (32, 8, 8), "")
    assert list(layer.to_dict().items()) == list(LAYER.items())
    wider = replace(layer, n_features=64, dtype="float16")
    assert list(wider.to_dict().items()) == [*{**LAYER, "n_features": 64}.items(), ("dtype", "float16")]
    assert layer.to_dict() == LAYER


def test_a_field_that_was_not_read_is_written_if_it_is_not_the_default() -> None:
    assert RuntimeProvenance().to_dict() == {}
    assert RuntimeProvenance(device="cuda", folded=False).to_dict() == {"device": "cuda"}
    assert RuntimeProvenance.from_dict({"folded": False}).to_dict() == {"folded": False}


def test_records_are_equal_if_they_are_written_alike() -> None:
    assert LayerProvenance(n_features=3, pooling="avg") == LayerProvenance.from_dict(
        {"pooling": "avg", "n_features": 3}
    )
    assert LayerProvenance.from_dict(LAYER) != LayerProvenance.from_dict({**LAYER, "stride": 16})
    assert RuntimeProvenance() != PreprocessingProvenance()


def test_a_missing_field_is_named_with_its_place() -> None:
    with pytest.raises(MismatchError, match=r"^shard\.of is missing$"):
        ShardProvenance.from_dict({"part": 1}, "shard")
    with pytest.raises(MismatchError, match=r"^of is missing$"):
        ShardProvenance.from_dict({"part": 1})


@pytest.mark.parametrize(("views", "axis"), [("none", ()), ("flip", (2,)), ("10crop", (10,))])
def test_views_are_a_middle_axis(views: str, axis: tuple[int, ...]) -> None:
    assert PreprocessingProvenance(views=views).middle_axis == axis


def test_another_preprocessing_is_told_by_its_fields() -> None:
    crop = PreprocessingProvenance(image_size=224, mode="crop")
    assert crop.differences(PreprocessingProvenance(image_size=224, mode="crop", views="none")) == []
    assert crop.differences(replace(crop, mode="pad", views="flip", resized_by="pillow")) == [
        "preprocessing.mode is 'crop', asked 'pad'",
        "preprocessing.resized_by is 'torch', asked 'pillow'",
        "preprocessing.views is 'none', asked 'flip'",
    ]


def test_a_file_without_a_word_on_colour_profiles_ignored_them() -> None:
    older = PreprocessingProvenance.from_dict({"mode": "crop"})
    assert older.ignore_profiles
    assert older.differences(replace(older, ignore_profiles=False)) == [
        "preprocessing.ignore_profiles is True, asked False"
    ]
    assert older.differences(PreprocessingProvenance.from_dict({"mode": "crop", "ignore_profiles": True})) == []


def test_differences_go_into_tables_and_leave_out_what_is_skipped() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "d": {"e": 5}}
    assert list(differences(old, new)) == ["a.c is 2, asked 4", "d is 3, asked {'e': 5}"]
    assert list(differences(old, new, skipped=("a.c",))) == ["d is 3, asked {'e': 5}"]
    assert list(differences(old, new, "x.", skipped=("x.d", "x.a"))) == []
