"""Codes that were made otherwise than those of a model are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from digit_codes import DESCRIPTION

from cnncodes.codes.provenance import Provenance
from cnncodes.errors import MismatchError
from cnncodes.models.match import require_match

LAYER = {"n_features": 40, "pooling": "avg"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "huge"}, "backbone is 'huge' there and 'tiny' in the model"),
        ({"weights_sha256": "cd" * 32}, "weights_sha256 is 'cdcd"),
        ({"pooling": "max"}, "pooling is 'max' there and 'avg' in the model"),
        ({"precision": "bf16"}, "precision is 'bf16'"),
        ({"preprocessing": {**DESCRIPTION["preprocessing"], "mode": "pad"}}, "preprocessing.mode is 'pad' there"),
        ({"preprocessing": {**DESCRIPTION["preprocessing"], "views": "flip"}}, "preprocessing.views is 'flip' there"),
        ({"layers": {"layer1": {"n_features": 24, "pooling": "avg"}}}, "layer 'penultimate' is not there"),
        (
            {"layers": {"penultimate": {"n_features": 41, "pooling": "avg"}}},
            "penultimate has 41 features there and 40 in the model",
        ),
    ],
)
def test_codes_made_otherwise_are_refused_and_each_difference_named(change, message, model):
    model.check_codes(Provenance.from_dict(DESCRIPTION), "same.h5")
    with pytest.raises(MismatchError, match=r"other\.h5 does not fit the model") as caught:
        model.check_codes(Provenance.from_dict({**DESCRIPTION, **change}), "other.h5")
    assert message in str(caught.value)
    with pytest.raises(MismatchError) as caught:
        model.check_codes(Provenance.from_dict({**DESCRIPTION, **change, "weights_sha256": "ef" * 32}), "other.h5")
    assert "efef" in str(caught.value)
    assert message[:9] in str(caught.value)


@pytest.mark.parametrize(("there", "option"), [(False, "with"), (True, "without")])
def test_codes_with_other_use_of_colour_profiles_are_refused_with_a_way_out(there, option, model):
    profiles = [{**DESCRIPTION["preprocessing"], "ignore_profiles": ignored} for ignored in (there, not there)]
    codes, ours = (Provenance.from_dict({**DESCRIPTION, "preprocessing": preprocessing}) for preprocessing in profiles)
    with pytest.raises(MismatchError, match=f"ignore_profiles is {there} there and {not there} in the model") as caught:
        replace(model, provenance=ours).check_codes(codes, "other.h5")
    assert f"to a new file {option} extract(…, ignore_profiles=True), or fit the model again" in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "change", "fits"),
    [
        (([40], [40]), {"pooling": "cls"}, True),
        (([50, 40], [50, 40]), {"pooling": "cls"}, False),
        (([40], [50, 40]), {"pooling": "cls"}, False),
        (([], []), {"pooling": "cls"}, False),  # files of others may not say it
        (([40], [40]), {"head_input": "pre_logits"}, False),
    ],
)
def test_how_maps_are_pooled_does_not_matter_for_vectors(shapes, change, fits, model):
    codes, ours = (
        Provenance.from_dict({**DESCRIPTION, "layers": {"penultimate": {**LAYER, "map_shape": shape}}})
        for shape in shapes
    )
    codes = Provenance.from_dict({**codes.to_dict(), **change})
    older = replace(model, provenance=ours)
    if fits:
        older.check_codes(codes, "other.h5")
    else:
        with pytest.raises(MismatchError, match=f"{next(iter(change))} is "):
            older.check_codes(codes, "other.h5")


def test_where_the_head_is_read_does_not_matter_for_other_layers():
    layers = {"layer3": {**LAYER, "map_shape": [40, 7, 7]}}
    codes = Provenance.from_dict({**DESCRIPTION, "layers": layers, "head_input": "pre_logits"})
    require_match(Provenance.from_dict({**DESCRIPTION, "layers": layers}), ["layer3"], codes, "other.h5")
