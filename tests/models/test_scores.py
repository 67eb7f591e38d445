"""The scores of a model: their keys and order are those of the model file, and what is not as it should be is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_codes import names, write_codes

from cnncodes.errors import ModelFileError
from cnncodes.models.fit import fit
from cnncodes.models.scores import Scores
from cnncodes.probes.estimate import Accuracies, Estimate

PAIR = Accuracies(Estimate(0.9, 0.8, 0.95), Estimate(0.7, 0.6, 0.8))
VALUES: dict[str, Any] = {  # of a fit with a split, a guard and a nested estimate, in the order of the model file
    "n": 30,
    "n_cv": 30,
    "classes": ["a", "b"],
    "clf": "svm",
    "layers": ["layer3"],
    "n_features": 96,
    "scale": "standard",
    "C": 0.1,
    "class_weight": None,
    "cv": 5,
    "seed": 0,
    "C_searched": True,
    **PAIR.to_dict("cv_"),
    "protocol": "cross-validation",
    "baseline_accuracy": 0.5,
    "neighbour_accuracy": 0.8,
    "n_duplicates": 4,
    "n_test_duplicates": 1,
    "duplicates_by_codes": True,
    "unguarded_accuracy": 0.95,
    **PAIR.to_dict("nested_"),
    "n_test": 10,
    **PAIR.to_dict("test_"),
    "n_test_grouped": 2,
    "unguarded_test_accuracy": 0.92,
    "ungrouped_test_accuracy": 0.93,
    "seconds": 1.5,
}
OPTIONAL = [name for name in VALUES if name.startswith(("nested_", "test_", "n_test", "un", "n_dup", "dup", "seconds"))]


def test_values_come_back_in_their_order() -> None:
    scores = Scores.from_dict(VALUES)
    assert list(scores.to_dict().items()) == list(VALUES.items())
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False)) == VALUES
    assert scores.cross_validated == scores.nested == scores.held_out == PAIR


def test_what_was_not_measured_has_no_key() -> None:
    least = {name: value for name, value in VALUES.items() if name not in OPTIONAL}
    scores = Scores.from_dict(least)
    assert list(scores.to_dict().items()) == list(least.items())
    assert scores["class_weight"] is None
    assert (scores.held_out, scores.nested, scores.n_duplicates) == (None, None, None)
    assert "test_accuracy" not in scores


def test_scores_are_a_mapping_that_nobody_changes() -> None:
    scores = Scores.from_dict(VALUES)
    assert scores == VALUES
    assert {**scores, "n": 31} == {**VALUES, "n": 31}
    assert (len(scores), scores.get("no such score")) == (len(VALUES), None)
    assert scores["cv_accuracy"] == scores.cross_validated.accuracy.value == 0.9
    assert scores["test_balanced_interval"] == [0.6, 0.8]
    with pytest.raises(TypeError):
        scores["n"] = 31  # type: ignore[index]
    assert replace(scores, n=31)["n"] == 31


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": "many"}, "scores.n is 'many', expected a count"),
        ({"n": True}, "scores.n is True, expected a count"),
        ({"n": -1}, "scores.n is -1, expected a count"),
        ({"n": 2**63}, f"scores.n is {2**63}, expected a count"),
        ({"classes": "ab"}, "scores.classes is 'ab', expected a list of names"),
        ({"layers": [3]}, r"scores.layers is [3], expected a list of names"),
        ({"C": 10**400}, "scores.C is 1000"),
        ({"seconds": float("inf")}, "scores.seconds is inf, expected a number"),
        ({"C_searched": 1}, "scores.C_searched is 1, expected true or false"),
        ({"class_weight": 2}, "scores.class_weight is 2, expected text"),
        ({"cv_accuracy": None}, "scores.cv_accuracy is None, expected a number"),
        ({"cv_interval": [0.1]}, "scores.cv_interval is [0.1], expected two numbers"),
        ({"cv_interval": [0.1, "x"]}, "scores.cv_interval is [0.1, 'x'], expected two numbers"),
        ({"command": "rm"}, "scores.command is no score"),
        ({"test_loss": 1.0}, "scores.test_loss is no score"),
    ],
)
def test_a_value_that_is_not_as_it_should_be_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        Scores.from_dict({**VALUES, **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in VALUES if name not in OPTIONAL and name != "class_weight"])
def test_a_value_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(ModelFileError, match=f"scores.{name} is None, expected"):
        Scores.from_dict({key: value for key, value in VALUES.items() if key != name})


@pytest.mark.parametrize("name", ["nested_interval", "test_balanced_accuracy"])
def test_a_part_of_an_estimate_is_refused(name: str) -> None:
    with pytest.raises(ModelFileError, match=f"scores.{name} is None, expected"):
        Scores.from_dict({key: value for key, value in VALUES.items() if key != name})


def test_scores_of_a_fit_have_the_keys_of_the_model_file_in_order(tmp_path: Path) -> None:
    rows = np.arange(240)
    path = write_codes(tmp_path / "codes.h5", rows, names(rows), ["train"] * 160 + ["test"] * 80)
    scores = fit(path, C=0.01, cv=3, nested=True).scores
    assert list(scores) == [
        name for name in VALUES if not name.startswith(("un", "seconds"))
    ]  # there are no duplicates or groups
    assert Scores.from_dict(scores.to_dict()) == scores
    assert (scores.n, scores.n_test, scores.clf, scores.C, scores.cv) == (160, 80, "svm", 0.01, 3)
    assert scores.C_searched is False
    assert "was given" in scores.protocol
    assert scores.seconds is None
    plain = fit(path, C=0.01, cv=3, guard=False).scores
    assert list(plain) == [
        name for name in VALUES if not name.startswith(("un", "nested_", "n_dup", "dup", "n_test_d", "seconds"))
    ]
