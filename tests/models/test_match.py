"""Codes that were made otherwise than those of a model are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from digit_codes import DESCRIPTION

from cnncodes.codes.provenance import Provenance
from cnncodes.errors import MismatchError


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
