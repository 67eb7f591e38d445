"""Out-of-fold answers that a model file keeps: found by the digest of an image, and refused where they cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tuned_models import RECORD, forge

from cnncodes.errors import ModelFileError
from cnncodes.models.answered import ANSWERED, Answered
from cnncodes.models.model import ProbeModel
from cnncodes.models.tuned import Tuned

DIGESTS = np.random.default_rng(0).integers(0, 256, (40, 32)).astype(np.uint8)


@pytest.fixture
def answered_file(model: ProbeModel, tmp_path: Path) -> Path:
    answered = Answered.of(DIGESTS[:30], np.arange(30) % 10, np.linspace(0, 1, 30))
    path = tmp_path / "tuned.safetensors"
    replace(model, tuned=Tuned.from_dict(RECORD), answered=answered).save(path)
    return path


def test_answers_come_back_to_their_images(answered_file: Path) -> None:
    answered = ProbeModel.load(answered_file).answered
    assert answered is not None
    order = np.random.default_rng(1).permutation(40)
    places = answered.places(DIGESTS[order])
    assert (places >= 0).tolist() == (order < 30).tolist()
    known = order < 30
    assert answered.classes[places[known]].tolist() == (order[known] % 10).tolist()
    np.testing.assert_array_equal(answered.confidence[places[known]], np.linspace(0, 1, 30)[order[known]])
    again = answered_file.with_name("again.safetensors")
    ProbeModel.load(answered_file).save(again)
    assert again.read_bytes() == answered_file.read_bytes()


def test_of_exact_copies_the_first_answer_counts() -> None:
    answered = Answered.of(DIGESTS[[3, 5, 3]], np.array([1, 2, 0]), np.array([0.9, 0.8, 0.7]))
    assert len(answered.images) == 2
    assert answered.classes[answered.places(DIGESTS[[3, 5]])].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("answered_images", None),
        ("answered_confidence", None),
        ("answered_classes", np.arange(30.0)),
        ("answered_classes", np.arange(30)),
        ("answered_classes", np.full(30, -1)),
        ("answered_classes", np.zeros(29, np.int64)),
        ("answered_images", np.zeros(30, np.int64)),
        ("answered_images", np.zeros((30, 1), np.int64)),
        ("answered_images", np.zeros((), np.int64)),
        ("answered_confidence", np.full(30, 1.5)),
        ("answered_confidence", np.full(30, np.nan)),
        ("answered_other", np.zeros(30)),
    ],
)
def test_answers_that_cannot_be_are_refused(name: str, array: np.ndarray | None, answered_file: Path) -> None:
    with pytest.raises(ModelFileError, match="not a model file, or damaged"):
        ProbeModel.load(forge(answered_file, arrays={name: array}))


def test_no_answers_at_all_are_refused_only_if_they_are_there(answered_file: Path) -> None:
    assert ProbeModel.load(forge(answered_file, arrays=dict.fromkeys(ANSWERED))).answered is None
    empty = {name: np.zeros(0, kind) for name, kind in ANSWERED.items()}
    with pytest.raises(ModelFileError, match="out of order"):
        ProbeModel.load(forge(answered_file, arrays=empty))


def test_answers_of_a_model_that_is_not_tuned_are_refused(answered_file: Path) -> None:
    with pytest.raises(ModelFileError, match="other arrays"):
        ProbeModel.load(forge(answered_file, {"tuned": "gone"}))
