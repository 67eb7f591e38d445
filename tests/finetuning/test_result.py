"""The answer in words and in JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cnncodes.finetuning.result import Finetuning
from cnncodes.models.fit import fit
from cnncodes.models.tuned import Tuned
from cnncodes.probes.estimate import Estimate

TUNED = {"first": "layer4", "below": "layer3", "epochs": 6, "share": 0.75, "probe_accuracy": 0.81, "seed": 0}
TUNED |= {"gain": 0.003, "gain_interval": [-0.004, 0.009]}


@pytest.fixture(scope="module")
def result(striped_codes) -> Finetuning:
    return Finetuning(fit(striped_codes, cv=3), "layer4", True, Estimate(0.029, 0.012, 0.046), 0.75, 6, 0.81, 60, 53.2)


def test_answer_says_whether_it_pays(result):
    assert result.answer == "fine-tuning from layer4 gains +2.9 points (+1.2 to +4.6)"
    likely = replace(result, gain=Estimate(0.033, -0.006, 0.064))
    assert likely.answer == "fine-tuning from layer4 likely gains +3.3 points (-0.6 to +6.4)"
    at_nothing = replace(result, gain=Estimate(0.033, 0.0004, 0.064))
    assert at_nothing.answer == "fine-tuning from layer4 likely gains +3.3 points (+0.0 to +6.4)"
    network = replace(result.model, tuned=Tuned.from_dict(TUNED))
    perhaps = replace(result, model=network, pays=False, gain=Estimate(0.003, -0.004, 0.009))
    assert perhaps.answer == "fine-tuning from layer4 may gain +0.3 points (-0.4 to +0.9)"
    none = replace(perhaps, gain=Estimate(-0.003, -0.009, 0.004))
    assert none.answer == "fine-tuning from layer4 shows no gain: -0.9 to +0.4 points; it is kept nevertheless"
    not_sure = replace(result, pays=False, gain=Estimate(0.003, -0.004, 0.009))
    assert not_sure.answer == "fine-tuning from layer4 does not pay: -0.4 to +0.9 points; the probe is kept"


def test_json_has_the_scores_of_what_is_kept_and_the_gain(result):
    figures = json.loads(json.dumps(result.to_dict()))
    assert figures["cv_accuracy"] == result.model.scores.cross_validated.accuracy.value
    assert figures["gain_interval"] == [0.012, 0.046]
    assert (figures["finetuned"], figures["pays"], figures["from"], figures["share"]) == (False, True, "layer4", 0.75)
    assert (figures["probe_accuracy"], figures["n_answers"], figures["seconds"]) == (0.81, 60, 53.2)
