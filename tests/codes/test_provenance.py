"""The provenance is written as it was read, wrong fields are named in one short line, and differences are told."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnncodes.codes.provenance import Provenance, refuse_mismatch
from cnncodes.codes.provenance_parts import LayerProvenance, ShardProvenance
from cnncodes.errors import MismatchError

FIELDS: dict[str, Any] = {
    "backbone": "mobilenet_v2",
    "library": "torchvision 0.29.1",
    "weights": "IMAGENET1K_V1",
    "weights_sha256": "b0" * 32,
    "licence": None,
    "preprocessing": {
        "resize": 73,
        "image_size": 64,
        "interpolation": "bilinear",
        "mean": [0.485, 0.456, 0],
        "std": [0.229, 0.224, 0.225],
        "mode": "crop",
        "exact": False,
        "views": "flip",
    },
    "allow_partial": False,
    "notes": ["a café"],
    "layers": {
        "layer2": {"n_features": 32, "pooling": "avg", "map_shape": [32, 8, 8], "dtype": "float16"},
        "last": {"n_features": 1280, "pooling": "avg", "map_shape": [1280], "dtype": "float32"},
        "penultimate": {"n_features": 1280, "pooling": "avg", "map_shape": [1280], "dtype": "float32"},
    },
    "links": {"last": "penultimate"},
    "pooling": "avg",
    "precision": "fp32",
    "dtype": "auto",
    "runtime": {
        "device": "cpu",
        "batch_size": 8,
        "memory_format": "channels_last",
        "folded": True,
        "leading_float32": 0,
        "fused": True,
        "compiled": False,
    },
    "versions": {"cnncodes": "0.1.0", "torch": "2.14.1"},
    "shard": {"part": 2, "of": 3, "images": "ab" * 32},
}
PROVENANCE = Provenance.from_dict(FIELDS)


def compact(value: Any, **options: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, **options)


def turned(value: Any) -> Any:
    """The same JSON with the keys of every table in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(item) for key, item in reversed(value.items())}
    return value


def test_fields_have_their_types() -> None:
    assert PROVENANCE.preprocessing.mean == (0.485, 0.456, 0)
    assert PROVENANCE.preprocessing.middle_axis == (2,)
    assert PROVENANCE.preprocessing.resized_by == "torch"
    assert PROVENANCE.layers["layer2"].map_shape == (32, 8, 8)
    assert PROVENANCE.stored_layers == ["layer2", "penultimate"]
    assert PROVENANCE.code_shape("layer2") == (2, 32)
    assert PROVENANCE.runtime.batch_size == 8
    assert PROVENANCE.shard == ShardProvenance(part=2, of=3, images="ab" * 32)


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS,
        turned(FIELDS),
        {"layers": {}},
        {"layers": {"a": {"n_features": 1, "pooling": "avg"}}, "links": {}, "preprocessing": {}, "runtime": {}},
        {**FIELDS, "lens": {"mm": [50, None, {"f": 1.4}]}, "": 0},
        {**FIELDS, "runtime": {"cores": 2, **FIELDS["runtime"], "clock": None}},
        {**FIELDS, "layers": {"layer2": {"stride": 8, **FIELDS["layers"]["layer2"]}}, "links": {}},
        {**FIELDS, "licence": "BSD-3-Clause", "notes": [], "versions": {}},
        {**FIELDS, "maps": {"layer2": [32, 8, 8], "blocks.3": [197, 768]}},
        {**FIELDS, "preprocessing": {**FIELDS["preprocessing"], "resized_by": "torch", "views": "none"}},
    ],
)
def test_what_is_read_is_written_with_the_same_text(fields: dict[str, Any]) -> None:
    text = compact(fields)
    provenance = Provenance.from_json(text)
    assert provenance.to_json() == text
    assert provenance.fingerprint == hashlib.sha256(compact(fields, sort_keys=True).encode()).digest()
    assert replace(provenance).to_json() == pickle.loads(pickle.dumps(provenance)).to_json() == text
    assert copy.deepcopy(provenance) == provenance


def test_maps_come_behind_the_stored_layers() -> None:
    mapped = replace(PROVENANCE, maps={"layer2": (32, 8, 8), "blocks.3": (197, 768)})
    assert mapped.stored_keys == ["layer2", "penultimate", "maps/layer2", "maps/blocks.3"]
    assert (mapped.map_shape("layer2"), mapped.map_bytes("layer2")) == ((2, 32, 8, 8), 2 * 2 * 32 * 8 * 8)
    assert mapped.map_shape("blocks.3") == (2, 197, 768)
    assert mapped.differences(PROVENANCE) == []
    assert mapped.differences(PROVENANCE, every=True) == [
        "maps is {'layer2': [32, 8, 8], 'blocks.3': [197, 768]}, asked None"
    ]
    assert mapped.only(["layer2"]).stored_keys == ["layer2"]
    assert "maps" not in mapped.facts()
    assert mapped.fingerprint != PROVENANCE.fingerprint


def test_a_licence_that_a_later_version_knows_refuses_no_file() -> None:
    """It follows from the weights, as their notes do."""
    later = replace(PROVENANCE, licence="dinov3-license", notes=("the weights have terms of their own",))
    assert PROVENANCE.differences(later) == []
    assert len(PROVENANCE.differences(later, every=True)) == 2


def test_the_record_does_not_follow_the_dict_that_it_was_read_from() -> None:
    fields = copy.deepcopy(FIELDS)
    provenance = Provenance.from_dict(fields)
    fields["backbone"], fields["layers"]["layer2"]["n_features"] = "vgg16", 5
    assert provenance == PROVENANCE
    assert provenance.to_dict() == FIELDS


def test_a_change_keeps_the_order_and_what_is_unknown() -> None:
    fields = {"lens": 50, **turned(FIELDS)}
    wide = Provenance.from_dict(fields).in_float32()
    expected = copy.deepcopy(fields)
    expected["dtype"] = expected["layers"]["layer2"]["dtype"] = "float32"
    assert wide.to_json() == compact(expected)
    del expected["shard"]
    assert wide.with_shard(None).to_json() == compact(expected)
    assert list(wide.with_shard(None).with_shard(PROVENANCE.shard).to_dict()) == list(fields)


def test_float32_is_written_where_no_type_was() -> None:
    plain = Provenance(layers={"layer1": LayerProvenance(n_features=3, pooling="avg")})
    assert plain.to_dict() == {"layers": {"layer1": {"n_features": 3, "pooling": "avg"}}}
    assert plain.in_float32().to_dict()["layers"]["layer1"] == {"n_features": 3, "pooling": "avg", "dtype": "float32"}


def test_some_layers_are_stored_for_themselves() -> None:
    last = PROVENANCE.only(["last", "layer2"])
    assert list(last.layers) == last.stored_layers == ["last", "layer2"]
    assert last.to_dict() == {
        **FIELDS,
        "layers": {name: FIELDS["layers"][name] for name in ("last", "layer2")},
        "links": {},
    }
    with pytest.raises(MismatchError, match=r"layers\.layer9 is missing"):
        PROVENANCE.only(["layer9"])


LONG = "x" * 10_000
WRONG: dict[str, tuple[tuple[str, ...], Any]] = {  # what is put where
    "backbone is 3, expected text": (("backbone",), 3),
    "weights_sha256 is 'none', expected the 64": (("weights_sha256",), "none"),
    "licence is ['BSD'], expected text": (("licence",), ["BSD"]),
    "allow_partial is 1, expected true or false": (("allow_partial",), 1),
    "notes is 'a café', expected a list": (("notes",), "a café"),
    "notes[0] is None, expected text": (("notes",), [None]),
    "layers is ['layer2'], expected a table": (("layers",), ["layer2"]),
    "layers.layer2 is None, expected a table": (("layers", "layer2"), None),
    "layers.layer2.n_features is 32.0, expected a positive integer": (("layers", "layer2", "n_features"), 32.0),
    "layers.layer2.n_features is True, expected a positive integer": (("layers", "layer2", "n_features"), True),
    "layers.layer2.pooling is 3, expected text": (("layers", "layer2", "pooling"), 3),
    "layers.layer2.map_shape[1] is '8', expected an integer": (("layers", "layer2", "map_shape"), [32, "8", 8]),
    "layers.layer2.dtype is 'float64', expected float16 or float32": (("layers", "layer2", "dtype"), "float64"),
    "links.last is 'layer9', expected a stored layer": (("links", "last"), "layer9"),
    "links.last is 'penultimate', expected a stored layer": (("links", "penultimate"), "penultimate"),
    "preprocessing is None, expected a table": (("preprocessing",), None),
    "preprocessing.image_size is 0, expected a positive integer": (("preprocessing", "image_size"), 0),
    "preprocessing.mean is [0.5, 0.5], expected a list of 3": (("preprocessing", "mean"), [0.5, 0.5]),
    "preprocessing.std[2] is 'x', expected a number": (("preprocessing", "std"), [1, 1, "x"]),
    "preprocessing.views is '11crop', expected one of none, flip, 10crop": (("preprocessing", "views"), "11crop"),
    "preprocessing.views is ['flip'], expected": (("preprocessing", "views"), ["flip"]),
    "runtime.batch_size is -1, expected a positive integer": (("runtime", "batch_size"), -1),
    "runtime.compiled is 'no', expected true or false": (("runtime", "compiled"), "no"),
    "maps is ['layer2'], expected a table": (("maps",), ["layer2"]),
    "maps.layer2[1] is 0, expected a positive integer": (("maps",), {"layer2": [32, 0, 8]}),
    "maps.layer2 is (32,), expected (C, H, W) or (tokens, D)": (("maps",), {"layer2": [32]}),
    "maps.layer2 is (1, 2, 3, 4), expected": (("maps",), {"layer2": [1, 2, 3, 4]}),
    "versions.torch is 2.11, expected text": (("versions", "torch"), 2.11),
    "shard.of is '3', expected a positive integer": (("shard", "of"), "3"),
    "pooling is ['xxx": (("pooling",), [LONG]),
    "links.xxx": (("links", LONG), "layer2"),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_field_is_named_in_one_short_line(message: str) -> None:
    places, value = WRONG[message]
    fields = copy.deepcopy(FIELDS)
    table = fields
    for place in places[:-1]:
        table = table[place]
    table[places[-1]] = value
    with pytest.raises(MismatchError) as caught:
        Provenance.from_json(json.dumps(fields))
    text = str(caught.value)
    assert text.startswith(message)
    assert len(text) <= 300
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the provenance is no JSON"),
        ("[" * 100_000, "the provenance is no JSON"),
        ("[1]", "the provenance is [1], expected a table"),
        ("{}", "layers is missing"),
        ('{"layers": {"a": {"pooling": "avg"}}}', "layers.a.n_features is missing"),
        ('{"layers": {}, "shard": {"part": 1, "of": 2}}', "shard.images is missing"),
    ],
)
def test_what_is_missing_is_named(text: str, message: str) -> None:
    with pytest.raises(MismatchError) as caught:
        Provenance.from_json(text)
    assert str(caught.value).startswith(message)


def test_a_batch_fits_into_memory() -> None:
    fields = copy.deepcopy(FIELDS)
    fields["runtime"]["batch_size"] = 10**9
    with pytest.raises(MismatchError, match=r"^runtime\.batch_size is 1000000000, expected a batch of at most 2 GiB"):
        Provenance.from_dict(fields)


def test_what_is_needed_is_demanded() -> None:
    PROVENANCE.require("backbone", "licence", "preprocessing.exact", "shard.part")
    older = Provenance.from_dict({"layers": {}, "runtime": {"device": "cpu"}})
    older.require("layers", "runtime.device")
    for name in ("dtype", "preprocessing.exact", "runtime.compiled"):
        with pytest.raises(MismatchError, match=f"lacks '{name}': another version wrote it; extract again"):
            older.require(name)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], list[str]]] = {
    "nothing": (lambda fields: None, []),
    "a field": (lambda fields: fields.update(pooling="max"), ["pooling is 'avg', asked 'max'"]),
    "views": (
        lambda fields: fields["preprocessing"].pop("views"),
        ["preprocessing.views is 'flip', asked 'none'"],
    ),
    "the resizer": (
        lambda fields: fields["preprocessing"].update(resized_by="pillow"),
        ["preprocessing.resized_by is 'torch', asked 'pillow'"],
    ),
    "the usual resizer, named": (lambda fields: fields["preprocessing"].update(resized_by="torch"), []),
    "a field that is unknown": (lambda fields: fields.update(lens=50), ["lens is None, asked 50"]),
    "torch": (lambda fields: fields["versions"].update(torch="3"), ["versions.torch is '2.14.1', asked '3'"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_differences_name_the_fields(change: str) -> None:
    fields = copy.deepcopy(FIELDS)
    alter, expected = CHANGES[change]
    alter(fields)
    other = Provenance.from_dict(fields)
    assert PROVENANCE.differences(other) == PROVENANCE.differences(other, every=True) == expected


def test_layers_and_our_version_differ_only_on_request() -> None:
    other = replace(PROVENANCE.only(["last"]), versions={**PROVENANCE.versions, "cnncodes": "9"})
    assert PROVENANCE.differences(other) == []
    names = [difference.split(" is ")[0] for difference in PROVENANCE.differences(other, every=True)]
    assert names == ["layers.layer2", "layers.penultimate", "links.last", "versions.cnncodes"]


def test_what_a_machine_decides_is_not_asked_for() -> None:
    refuse_mismatch(Path("codes.h5"), PROVENANCE, PROVENANCE)
    with pytest.raises(
        MismatchError, match=r"codes\.h5 was made otherwise: pooling is 'avg'.*Ask for the same, choose"
    ):
        refuse_mismatch(Path("codes.h5"), PROVENANCE, replace(PROVENANCE, pooling="max"))
    unfused = replace(PROVENANCE, runtime=replace(PROVENANCE.runtime, fused=False))
    with pytest.raises(MismatchError, match=r"runtime\.fused is True, asked False\. It was made by another version"):
        refuse_mismatch(Path("codes.h5"), PROVENANCE, unfused)
