"""Advice: the evidence is what it says, and the verdict follows from it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from comparison_rows import made_up_row
from digit_codes import names, write_codes

from cnncodes.codes.file import CodesFile
from cnncodes.codes.load_codes import load_codes
from cnncodes.errors import BackboneError
from cnncodes.insight.advise import Advice, advise
from cnncodes.insight.comparison import Comparison
from cnncodes.insight.evidence import (
    Evidence,
    by_slope,
    images_per_class,
    mean_cosine,
    of_pretrained_head,
    of_spread,
    similarity_of,
    size_of,
)
from cnncodes.insight.learning_curve import LearningCurve
from cnncodes.insight.pretrained_head import PretrainedHead
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path


@pytest.fixture(scope="module")
def advice(sample_codes: Path) -> Advice:
    return advise(sample_codes, cv=3)


def evidence(advice: Advice, what: str) -> Evidence:
    return next(item for item in advice.evidence if item.what == what)


def test_the_layer_is_that_of_the_smallest_log_loss(advice: Advice) -> None:
    losses = {tuple(row.layers): row.log_loss for row in advice.comparison.probes}
    assert tuple(advice.layers) == min(losses, key=lambda layers: losses[layers])
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


def test_the_pretrained_head_says_what_torchvision_says(sample_codes: Path) -> None:
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(shipped_path(EMBEDDED_WEIGHTS), weights_only=True))
    codes = load_codes(sample_codes, "penultimate")
    with torch.inference_mode():
        expected = model.eval().classifier(torch.from_numpy(codes)).softmax(1).max(1).values.numpy()
    with CodesFile.open(sample_codes) as file:
        head = PretrainedHead(file.provenance)
    np.testing.assert_allclose(head.confidence(codes), expected, rtol=1e-4)
    assert head.confidence(head.photos).mean() > 1.5 * expected.mean()


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


def test_a_head_for_other_classes_is_refused(sample_codes: Path) -> None:
    with CodesFile.open(sample_codes) as file:
        provenance = replace(file.provenance, backbone="tiny-head", weights="random")
    from cnncodes import register_backbone
    from cnncodes.networks.preprocessing import Preprocessing

    plain = Preprocessing(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    register_backbone("tiny-head", lambda: torchvision.models.mobilenet_v2(num_classes=5), preprocessing=plain)
    with pytest.raises(BackboneError, match="no linear head for the 1,000 classes"):
        PretrainedHead(provenance)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (["small", ""], "small"),
        (["undecided", "similar"], "similar"),
        (["similar", "dissimilar", ""], "undecided"),
        (["undecided", ""], "undecided"),
    ],
)
def test_the_verdict_is_what_all_evidence_says(said: list[str], verdict: str) -> None:
    assert size_of([Evidence("", "", says) for says in said]) == verdict


@pytest.mark.parametrize(("count", "says"), [(200, "small"), (201, "undecided"), (999, "undecided"), (1000, "large")])
def test_the_number_of_images_decides_at_the_ends(count: int, says: str) -> None:
    assert images_per_class(np.repeat(["a", "b", "c"], [5, count, 9999])).says == says


def test_between_them_the_curve_decides() -> None:
    def says(interval: tuple[float, float], decided: bool = False) -> str:
        return by_slope(LearningCurve([1], [1], [(0, 1)], 0.01, interval, {}), decided).says

    assert [says((0.011, 0.03)), says((0.0, 0.02)), says((-0.01, 0.009))] == ["small", "undecided", "large"]
    assert says((0.02, 0.03), decided=True) == ""


class Head:
    """Stands for a pretrained head: the confidence is the first number of a code."""

    photos = np.eye(8, dtype=np.float32) * 0.5 + 0.25

    def confidence(self, codes: np.ndarray) -> np.ndarray:
        return np.full(8, 0.5) if codes is self.photos else codes[:, 0]


def head_says(mean: float, n: int, deviation: float = 0.2) -> str:
    codes = np.ones((n, 2))
    codes[:, 0] = mean + deviation * np.resize([1, -1], n)
    return of_pretrained_head(codes, Head()).says


def test_the_head_decides_only_where_its_mean_is_known_well_enough() -> None:
    assert [head_says(mean, 400) for mean in (0.25, 0.36, 0.45)] == ["dissimilar", "undecided", "similar"]
    assert [head_says(mean, 6) for mean in (0.25, 0.45)] == ["undecided"] * 2
    assert [head_says(mean, 400, 2.0) for mean in (0.25, 0.45)] == ["undecided"] * 2
    assert head_says(0.9, 1) == "undecided"


def test_codes_that_are_all_alike_speak_against_photographs() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = (rng.normal(centre, 1, (40, 8)) for centre in (1.0, 4.0))
    assert mean_cosine(wide) < 0.7 < 0.9 < mean_cosine(narrow)
    assert [of_spread(codes, Head()).says for codes in (wide, narrow, narrow[:6])] == ["", "dissimilar", ""]


@pytest.mark.parametrize(
    ("depth", "head", "spread", "verdict"),
    [
        ("dissimilar", "similar", "", "dissimilar"),  # accuracy by depth is the strongest
        ("undecided", "similar", "", "similar"),
        ("undecided", "similar", "dissimilar", "undecided"),  # digits
        ("similar", "undecided", "dissimilar", "undecided"),
        ("undecided", "dissimilar", "dissimilar", "dissimilar"),
        ("undecided", "undecided", "dissimilar", "undecided"),
    ],
)
def test_depth_comes_before_the_head_and_a_narrow_spread_keeps_both_from_similar(
    depth: str, head: str, spread: str, verdict: str
) -> None:
    first, second, third = (Evidence("", "", says) for says in (depth, head, spread))
    assert similarity_of([first, second], [third]) == verdict


def told(size: str, similarity: str, layer: str) -> str:
    rows = [made_up_row([name], log_loss=loss) for name, loss in (("layer3", 0.5), ("penultimate", 0.25))]
    return Advice(size, similarity, [layer], [], [], Comparison(rows), None).summary


def test_the_case_and_the_layer_are_told_apart_where_they_disagree() -> None:
    assert told("small", "dissimilar", "penultimate") == (
        "small and dissimilar to ImageNet, which usually asks for a linear SVM on the codes of an earlier layer; "
        "but of the layers here, penultimate predicts best (its log loss is the smallest, 0.250)"
    )
    assert "usually asks for a linear classifier on the top codes; but" in told("small", "similar", "layer3")
    for similarity, layer in (("dissimilar", "layer3"), ("similar", "penultimate")):
        assert f"small and {similarity} to ImageNet: a linear" in told("small", similarity, layer)
        assert "but" not in told("small", similarity, layer)
    assert "but" not in told("large", "dissimilar", "penultimate")


def test_the_log_loss_that_the_layer_is_chosen_by_is_among_the_evidence(advice: Advice) -> None:
    found = evidence(advice, "log loss by layer").found
    first = min(advice.comparison.probes, key=lambda row: row.log_loss)
    assert found.startswith(f"{first.layers[0]} {first.log_loss:.3f}, ")
    assert all(f"{name} " in found for name in ("layer1", "layer2", "layer3", "penultimate"))
    assert f"{first.log_loss:.3f}" in advice.summary


def test_without_a_learning_curve_one_plot_is_drawn(advice: Advice) -> None:
    assert len(advice.plot()) == 2
    assert len(replace(advice, curve=None).plot()) == 1


def test_mean_cosine_is_over_all_pairs() -> None:
    codes = np.random.default_rng(0).normal(0.5, 1, (30, 8)).astype(np.float32)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    assert mean_cosine(codes) == pytest.approx((unit @ unit.T)[np.triu_indices(30, 1)].mean(), abs=1e-6)
