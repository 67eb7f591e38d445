"""Evaluation: which images are scored, and what is said of the others."""

from __future__ import annotations

import numpy as np
import pytest
from digit_codes import DESCRIPTION, Y_DIGITS, names, write_codes
from digit_models import N_TEST, codes_of
from sklearn.neighbors import KNeighborsClassifier

import cnncodes.probes.out_of_core
from cnncodes.codes.file import CodesFile
from cnncodes.errors import (
    MismatchError,
)
from cnncodes.models.evaluate import evaluate
from cnncodes.models.fit import fit

BAD = np.arange(20)


def test_evaluation_on_codes_scores_the_held_out_rows(model, split_codes):
    result = evaluate(split_codes, model)
    X, y = codes_of(split_codes, "penultimate", "test")
    assert result.to_dict()["n"] == N_TEST
    assert result.to_dict()["test_accuracy"] == np.mean(model.to_sklearn().predict(X.astype(float)) == y)
    assert result.to_dict()["test_accuracy"] == model.scores["test_accuracy"]
    assert [note for note in result.notes if "near-duplicates" not in note] == []


def test_evaluation_reads_a_bounded_piece_of_the_file_at_a_time(model, split_codes, monkeypatch):
    whole = evaluate(split_codes, model, guard=False)
    read, sizes = CodesFile.codes, []

    def watched(*args, **options):
        codes = read(*args, **options)
        sizes.append(len(codes))
        return codes

    monkeypatch.setattr(cnncodes.probes.out_of_core, "CHUNK_BYTES", 7 * 4 * model.coef.shape[1])
    monkeypatch.setattr(CodesFile, "codes", watched)
    pieces = evaluate(split_codes, model, guard=False)
    asked = list(sizes)
    np.testing.assert_array_equal(pieces.predicted, whole.predicted)
    (X, y), (queries, expected) = (codes_of(split_codes, "penultimate", split) for split in ("train", "test"))
    nearest = KNeighborsClassifier(1).fit(model.scaled(X), y)
    assert pieces.neighbour_accuracy == whole.neighbour_accuracy == nearest.score(model.scaled(queries), expected)
    assert [size for size in asked if size > 7] == [N_TEST]  # those that the nearest neighbour is looked for
    assert asked.count(7) > 10


def test_images_that_the_model_was_fitted_on_are_not_held_out(pair_codes, tmp_path):
    fitted = fit(pair_codes, C=0.01)
    assert "test_accuracy" not in evaluate(pair_codes, fitted).to_dict()
    rows = np.flatnonzero(np.isin(Y_DIGITS, [1, 8]))[100:150]  # twenty of them are training images
    both = evaluate(write_codes(tmp_path / "codes.h5", rows, names(rows)), fitted)
    assert (len(both.y), both.n_seen) == (30, 20)
    assert any("20 images are left out: the model was fitted on them" in note for note in both.notes)
    new = evaluate(write_codes(tmp_path / "new.h5", rows[20:], names(rows[20:])), fitted)
    assert both.to_dict()["test_accuracy"] == new.to_dict()["test_accuracy"]
    assert new.n_seen == 0


def test_evaluation_on_the_rows_it_was_trained_on_says_so(pair_codes):
    result = evaluate(pair_codes, fit(pair_codes, C=1.0))
    assert any("fitted on" in note for note in result.notes)


def test_class_that_the_model_does_not_know_is_named_and_missed(model, tmp_path):
    rows = np.arange(300, 340)
    path = write_codes(tmp_path / "codes.h5", rows, ["moth"] * 5 + names(rows[5:]))
    result = evaluate(path, model)
    assert any("moth" in note for note in result.notes)
    assert result.per_class["moth"] == {"precision": 0, "recall": 0, "f1": 0, "n": 5}


def test_evaluation_refuses_codes_of_another_backbone(model, tmp_path):
    path = write_codes(tmp_path / "other.h5", BAD, ["a", "b"] * 10, description={**DESCRIPTION, "backbone": "huge"})
    with pytest.raises(MismatchError, match="backbone is 'huge'"):
        evaluate(path, model)
