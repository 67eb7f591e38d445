"""What the file of a model holds is all that the model is."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from cnncodes.models.answered import Answered
from cnncodes.models.model import ProbeModel
from cnncodes.models.model_content import attributes_of, content_of
from cnncodes.models.tuned import Tuned

RECORD = {"first": "layer4", "below": "layer3", "epochs": 6, "share": 0.75, "probe_accuracy": 0.81}


def test_attributes_come_back_from_the_content(model):
    tuned = replace(
        model,
        tuned=Tuned.from_dict({**RECORD, "gain": 0.03, "gain_interval": [0.01, 0.05], "seed": 0}),
        tensors={"layer4.0.weight": np.float32([[1, 2]]), "tuned/scale": np.float32([3])},
        answered=Answered(np.array([-5, 7]), np.array([1, 0]), np.array([0.5, 0.75])),
    )
    for one in (model, replace(model, training_codes=None, familiarity=None, class_means=None), tuned):
        attributes = attributes_of(*content_of(one))
        again = ProbeModel(**attributes)
        assert again.same_as(one)
        assert attributes.keys() | {"training_codes", "familiarity", "class_means"} == {
            field.name for field in fields(ProbeModel)
        }
        assert again.tensors.keys() == one.tensors.keys()
        assert (again.provenance, again.scores, again.tuned is None) == (one.provenance, one.scores, one.tuned is None)
    assert again.answered.places(np.full((1, 32), 0, np.uint8)).tolist() == [-1]
    assert again.answered.confidence.tolist() == [0.5, 0.75]
    assert not again.same_as(model)
