"""The figures that `fit` and `evaluate` show, line by line, of values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cnncodes.cli.scores import evaluation_lines, score_lines
from cnncodes.models.evaluation import EvaluationResult
from cnncodes.models.scores import Scores
from cnncodes.probes.estimate import Accuracies, Estimate

PAIR = Accuracies(Estimate(0.9, 0.8, 0.95), Estimate(0.7, 0.6, 0.8))
SCORES = Scores(
    n=30,
    n_cv=30,
    classes=["a", "b"],
    clf="svm",
    layers=["layer3", "penultimate"],
    n_features=96,
    scale="standard",
    C=0.0316227766,
    cv=5,
    seed=0,
    C_searched=True,
    cross_validated=PAIR,
    protocol="cross-validation",
    baseline_accuracy=0.5,
    neighbour_accuracy=0.8,
)


def test_the_least_that_a_fit_shows() -> None:
    assert score_lines(SCORES) == [
        ("images", "30 in 2 classes"),
        ("probe", "svm on layer3 + penultimate, C = 0.0316"),
        ("cross-validated accuracy", "90.0 %  [80.0 %, 95.0 %]  95 % interval"),
        ("  balanced over classes", "70.0 %  [60.0 %, 80.0 %]  95 % interval"),
        ("", "C was chosen on the same folds; --nested includes that choice"),
        ("majority class", "50.0 %"),
        ("nearest neighbour", "80.0 %"),
    ]


def test_nested_and_held_out_figures_have_lines_of_their_own_and_a_given_C_no_remark() -> None:
    titles = [title for title, _ in score_lines(replace(SCORES, nested=PAIR, n_test=4, held_out=PAIR))]
    assert titles[4:9:2] == ["nested accuracy", "held-out accuracy", "majority class"]
    assert "" not in titles
    assert "" not in [title for title, _ in score_lines(replace(SCORES, C_searched=False))]


def test_images_that_are_left_out_are_told_with_what_they_would_have_flattered() -> None:
    guarded = replace(SCORES, n_duplicates=4, n_test_duplicates=2, duplicates_by_codes=True)
    lines = dict(score_lines(replace(guarded, n_test=9, held_out=PAIR, unguarded_test_accuracy=0.96)))
    assert lines["near-duplicates"] == (
        "4 images; 2 held-out ones left out, with which held-out accuracy would look like 96.0 %"
    )
    none_left = dict(score_lines(replace(guarded, unguarded_test_accuracy=1.0)))["near-duplicates"]
    assert none_left.endswith("would look like 100.0 %; none is left, so there is no held-out accuracy")
    same = replace(guarded, n_test=9, held_out=PAIR, unguarded_test_accuracy=PAIR.accuracy.value + 1e-4)
    assert dict(score_lines(same))["near-duplicates"].endswith("with which held-out accuracy would look the same")
    by_bytes = replace(SCORES, n_duplicates=0, duplicates_by_codes=False, n_test_grouped=3, ungrouped_test_accuracy=0.5)
    lines = dict(score_lines(by_bytes))
    assert lines["near-duplicates"] == "not looked for by codes (exact copies only): 0 images"
    assert lines["groups in train and test"].startswith("3 held-out ones left out, with which")


def test_an_evaluation_says_whether_its_images_are_new_to_the_model() -> None:
    y = np.array(["a", "a", "b", "b"])
    about = {"clf": "logreg", "layers": ["layer3"], "C": 1.0}
    result = EvaluationResult(y, np.array(["a", "a", "b", "a"]), ["a", "b"], 0.5, about, 2.0, n_grouped=5)
    lines = dict(evaluation_lines(result))
    assert lines["held-out accuracy"].startswith("75.0 %  [")
    assert lines["groups in train and test"] == "5 held-out ones left out"
    assert (lines["probe"], lines["seconds"]) == ("logreg on layer3, C = 1", "2.0")
    assert "nearest neighbour" not in lines
    assert "TRAINING-image accuracy" in dict(evaluation_lines(replace(result, n_seen=4)))
    tuned = dict(evaluation_lines(replace(result, about={**about, "tuned_from": "layer4"})))
    assert tuned["probe"] == "logreg on layer3, C = 1, fine-tuned from layer4 on"
