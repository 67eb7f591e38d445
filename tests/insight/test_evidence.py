"""Evidence: what each observation says, and the verdict that follows."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.insight.evidence import (
    Evidence,
    by_pretrained_head,
    by_slope,
    by_spread,
    images_per_class,
    mean_cosine,
    similarity_of,
    size_of,
)
from cnncodes.insight.learning_curve import LearningCurve


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
    return by_pretrained_head(codes, Head()).says


def test_the_head_decides_only_where_its_mean_is_known_well_enough() -> None:
    assert [head_says(mean, 400) for mean in (0.25, 0.36, 0.45)] == ["dissimilar", "undecided", "similar"]
    assert [head_says(mean, 6) for mean in (0.25, 0.45)] == ["undecided"] * 2
    assert [head_says(mean, 400, 2.0) for mean in (0.25, 0.45)] == ["undecided"] * 2
    assert head_says(0.9, 1) == "undecided"


def test_codes_that_are_all_alike_speak_against_photographs() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = (rng.normal(centre, 1, (40, 8)) for centre in (1.0, 4.0))
    assert mean_cosine(wide) < 0.7 < 0.9 < mean_cosine(narrow)
    assert [by_spread(codes, Head()).says for codes in (wide, narrow, narrow[:6])] == ["", "dissimilar", ""]


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


def test_mean_cosine_is_over_all_pairs() -> None:
    codes = np.random.default_rng(0).normal(0.5, 1, (30, 8)).astype(np.float32)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    assert mean_cosine(codes) == pytest.approx((unit @ unit.T)[np.triu_indices(30, 1)].mean(), abs=1e-6)
