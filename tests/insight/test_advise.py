"""Advice: the evidence is what it says, and the verdict follows from it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparison_rows import made_up_row
from digit_codes import names, write_codes

from cnncodes.insight.advise import Advice, advise
from cnncodes.insight.comparison import Comparison
from cnncodes.insight.evidence import (
    Evidence,
)


@pytest.fixture(scope="module")
def advice(sample_codes: Path) -> Advice:
    return advise(sample_codes, cv=3)


def evidence(advice: Advice, what: str) -> Evidence:
    return next(item for item in advice.evidence if item.what == what)


def test_the_layer_is_that_which_the_comparison_recommends(advice: Advice) -> None:
    assert advice.recommended is advice.comparison.recommended
    assert advice.layers == advice.comparison.recommended.layers
    assert advice.layers[0] in advice.summary
    words = shlex.split(advice.commands[0])
    assert words[:2] == ["cnncodes", "fit"]
    assert words[words.index("--layer") + 1] == advice.layers[0]


def test_a_few_tiny_pictures_of_clothes_are_small_and_unlike_photographs(advice: Advice) -> None:
    assert advice.size == "small"
    assert evidence(advice, "images a class").found == "10 in the median of 3 classes, from 10 to 10"
    assert evidence(advice, "pretrained head").says == "dissimilar"
    json.dumps(advice.to_dict(), allow_nan=False)
    assert advice.to_frame()["what"].tolist() == [item.what for item in advice.evidence]
    assert advice.summary in advice._repr_html_()


def test_a_network_that_is_not_at_hand_is_told_of(tmp_path: Path) -> None:
    rows = np.arange(60)
    found = advise(write_codes(tmp_path / "codes.h5", rows, names(rows)), cv=2)
    assert any(note.startswith("the pretrained head was not asked: ") for note in found.notes)
    assert {item.what for item in found.evidence} == {"images a class", "accuracy by depth", "log loss by layer"}
    assert any("too few for a learning curve" in note for note in found.notes)
    assert found.curve is None


def test_an_interruption_ends_it(tmp_path: Path) -> None:
    def progress(done: int, total: int, failed: int) -> None:
        raise KeyboardInterrupt

    rows = np.arange(60)
    with pytest.raises(KeyboardInterrupt):
        advise(write_codes(tmp_path / "codes.h5", rows, names(rows)), cv=2, progress=progress)


def told(size: str, similarity: str, layer: str) -> str:
    rows = [made_up_row([name], log_loss=loss) for name, loss in (("layer3", 0.5), ("penultimate", 0.25))]
    return Advice(size, similarity, [layer], [], [], Comparison(rows), None).summary


def test_the_case_and_the_layer_are_told_apart_where_they_disagree() -> None:
    assert told("small", "dissimilar", "penultimate") == (
        "small and dissimilar to ImageNet, which usually asks for a linear SVM on the codes of an earlier layer; "
        "but of the layers here, penultimate is recommended (its log loss is the smallest, 0.250)"
    )
    assert "usually asks for a linear classifier on the top codes; but" in told("small", "similar", "layer3")
    for similarity, layer in (("dissimilar", "layer3"), ("similar", "penultimate")):
        assert f"small and {similarity} to ImageNet: a linear" in told("small", similarity, layer)
        assert "but" not in told("small", similarity, layer)
    assert "but" not in told("large", "dissimilar", "penultimate")


def test_a_layer_that_is_as_good_as_the_best_within_the_noise_is_told_as_such() -> None:
    assert "layer3 is recommended (its log loss, 0.500, is as good as the smallest, 0.250, within the noise)" in told(
        "small", "dissimilar", "layer3"
    )


def test_the_log_loss_that_the_layer_is_chosen_by_is_among_the_evidence(advice: Advice) -> None:
    found = evidence(advice, "log loss by layer").found
    first = min(advice.comparison.probes, key=lambda row: row.log_loss)
    assert found.startswith(f"{first.layers[0]} {first.log_loss:.3f}, ")
    assert all(f"{name} " in found for name in ("layer1", "layer2", "layer3", "penultimate"))
    assert f"{advice.recommended.log_loss:.3f}" in advice.summary


def test_without_a_learning_curve_one_plot_is_drawn(advice: Advice) -> None:
    assert len(advice.plot()) == 2
    assert len(replace(advice, curve=None).plot()) == 1
