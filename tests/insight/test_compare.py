"""Comparisons: paired on the same folds, best first, and what they recommend."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from comparison_rows import made_up_row, row_of
from digit_codes import LAYERS, Y_DIGITS, names, write_codes
from scipy.stats import multivariate_normal, norm, ttest_rel

from cnncodes.errors import MismatchError
from cnncodes.insight.compare import _with_differences, compare
from cnncodes.insight.comparison import Comparison
from cnncodes.models.fit import fit
from cnncodes.probes.intervals import paired_interval


def test_every_probe_is_there_best_first_with_the_baselines(codes: Path) -> None:
    found = compare(codes, cv=3, repeats=1)
    accuracies = [row.accuracy.value for row in found.rows]
    assert accuracies == sorted(accuracies, reverse=True)
    kinds = {(row.clf, *row.layers) for row in found.rows}
    probes = {(clf, layer) for clf in ("svm", "logreg") for layer in LAYERS}
    probes |= {(clf, *LAYERS) for clf in ("svm", "logreg")}  # the last two together
    assert kinds == probes | {("majority",), ("neighbour",)}
    assert found.rows[-1].clf == "majority"
    assert found.rows[-1].accuracy.value == found.rows[0].baseline_accuracy
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_repeat_gives_the_figures_of_fit(codes: Path) -> None:
    of_svm = row_of(compare(codes, clfs=["svm"], layers="layer1", cv=3, repeats=1), "layer1")
    alone = fit(codes, layers="layer1", cv=3).scores
    assert pytest.approx(alone["C"]) == of_svm.C
    for key in ("cv_accuracy", "cv_interval", "n", "classes"):
        assert of_svm.to_dict()[key] == alone[key]


def test_repeats_are_averaged_over_the_folds_of_other_seeds(comparison: Comparison, codes: Path) -> None:
    row = row_of(comparison, "penultimate")
    alone = [fit(codes, layers="penultimate", cv=3).scores]
    assert alone[0]["C"] == row.C
    alone.append(fit(codes, layers="penultimate", cv=3, seed=1, C=row.C).scores)
    assert alone[0]["cv_accuracy"] != alone[1]["cv_accuracy"]
    assert row.accuracy.value == pytest.approx(np.mean([scores["cv_accuracy"] for scores in alone]))
    width = np.diff(row.accuracy.interval)[0]  # two answers to an image are no two images
    assert width == pytest.approx(np.mean([np.diff(scores["cv_interval"])[0] for scores in alone]), rel=0.01)


def test_a_concatenation_is_a_row_like_any_other(comparison: Comparison, codes: Path) -> None:
    both = row_of(comparison, "layer1", "penultimate")
    assert both.n_features == sum(row_of(comparison, name).n_features for name in LAYERS)
    options = {"layers": list(LAYERS), "cv": 3}
    alone = [fit(codes, **options).scores["cv_accuracy"], fit(codes, seed=1, C=both.C, **options).scores["cv_accuracy"]]
    assert both.accuracy.value == pytest.approx(np.mean(alone))


def test_differences_are_to_the_best(comparison: Comparison) -> None:
    probes = [row for row in comparison.rows if row.layers]
    best = probes[0]  # the nearest neighbour may do better still
    assert best.difference == 0
    for row in comparison.rows:
        assert row.difference == pytest.approx(row.accuracy.value - best.accuracy.value)
        if row in probes[1:]:
            low, high = row.difference_interval
            assert low < row.difference < high
            assert high - low < sum(np.diff(one.accuracy.interval)[0] for one in (row, best))
    weak = row_of(comparison, "layer1")  # 24 of the 64 pixels
    assert weak.difference_interval[1] < 0


def test_the_smallest_log_loss_is_recommended_unless_the_default_is_as_good_within_the_noise() -> None:
    rng = np.random.default_rng(0)

    def recommended(early: float, last: float, *joined: float) -> str:
        means = {"early": early, "last, svm": last, "last, logreg": last, "joined": joined[0] if joined else None}
        layers = {"early": ["layer1"], "joined": ["layer3", "penultimate"]}
        rows, shares, losses = [], [], []
        for name, mean in means.items():
            if mean is not None:
                clf, of_row = "logreg" if "logreg" in name else "svm", layers.get(name, ["penultimate"])
                rows.append(made_up_row(of_row, clf=clf, depth=int(name != "early"), n_features=99))
                shares.append(np.arange(400) < 200)
                losses.append(mean + rng.normal(scale=1.0, size=400))  # the mean is known to about 0.05
        found = Comparison(_with_differences(rows, shares, losses)).recommended
        return f"{'+'.join(found.layers)} {found.clf}"

    assert recommended(0.50, 0.52) == "penultimate svm"
    assert recommended(0.50, 0.90) == "layer1 svm"
    assert recommended(0.90, 0.50) == "penultimate svm"
    assert recommended(0.50, 0.50, 0.52) == "layer3+penultimate svm"
    assert recommended(0.90, 0.50, 0.90) in ("penultimate svm", "penultimate logreg")


def test_files_must_hold_the_same_images(codes: Path, tmp_path: Path) -> None:
    twin = shutil.copy(codes, tmp_path / "twin.h5")
    rows = compare([codes, twin], clfs=["svm"], layers=["layer1"], cv=3, repeats=1).rows
    assert [row.clf for row in rows] == ["svm", "svm", "neighbour", "majority"]
    assert rows[0].accuracy.value == rows[1].accuracy.value
    numbers = np.flatnonzero(np.isin(Y_DIGITS, [1, 8]))[:120]
    with pytest.raises(MismatchError, match="hold other images or labels"):
        compare([codes, write_codes(tmp_path / "other.h5", numbers, names(numbers))])


def test_an_interruption_leaves_what_is_done(codes: Path) -> None:
    def progress(done: int, total: int, failed: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    found = compare(codes, cv=3, repeats=1, progress=progress)
    assert not found.finished
    assert sorted(row.clf for row in found.rows) == ["logreg", "majority", "svm"]
    assert found.notes[-1] == "interrupted: 2 of 6 probes were compared"


def test_a_note_that_all_probes_have_is_told_once(tmp_path: Path) -> None:
    rows = np.concatenate([np.flatnonzero(number == Y_DIGITS)[:3] for number in (0, 1)])
    path = write_codes(tmp_path / "codes.h5", rows, names(rows))
    calls: list[tuple[int, int]] = []
    found = compare(path, progress=lambda done, total, failed: calls.append((done, total)))
    assert sum("3 folds instead of 5" in note for note in found.notes) == 1
    assert "3 folds instead of 5: the class 'digit 0' has 3 images" in found.notes
    assert calls == [(done, 6) for done in range(7)]  # the number of all is known from the start
    table = compare(path, clfs=["svm"]).table()[1]
    assert not any("\N{EN DASH}" in cell for row in table for cell in row)
    neighbour = next(row for row in found.rows if row.clf == "neighbour")
    assert neighbour.by_layers == next(row.layers for row in found.rows if row.layers)


def test_paired_interval_is_students_for_many_images() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((2, 5000)) < [[0.8], [0.75]]).astype(float)
    expected = ttest_rel(a, b).confidence_interval(0.95)
    np.testing.assert_allclose(paired_interval(a, b), expected, atol=3e-4)
    low, high = paired_interval(np.ones(20), np.ones(20))
    assert low < 0 < high  # twenty images without a difference do not prove that there is none


def test_the_difference_to_the_best_of_several_allows_for_the_choice() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((2, 100_000)) < [[0.8], [0.81]]).astype(float)
    low, high = paired_interval(a, b)
    low_of_seven, high_of_seven = paired_interval(a, b, best_of=7)
    assert low_of_seven == low
    quantile = norm.ppf(0.975) * (high_of_seven - (low + high) / 2) / ((high - low) / 2)
    six = multivariate_normal(cov=0.5 + 0.5 * np.eye(6))  # differences to one reference share its error
    assert six.cdf(np.full(6, quantile)) == pytest.approx(0.975, abs=5e-4)


def test_a_class_of_one_image_is_left_out_with_a_note(tmp_path):
    rows = np.concatenate([np.flatnonzero(digit == Y_DIGITS)[:count] for digit, count in ((0, 15), (1, 15), (2, 1))])
    with_it = compare(write_codes(tmp_path / "codes.h5", rows, names(rows)), layers="layer1", clfs=["svm"])
    without = compare(write_codes(tmp_path / "two.h5", rows[:-1], names(rows[:-1])), layers="layer1", clfs=["svm"])
    for row, expected in zip(with_it.rows, without.rows, strict=True):
        assert (row.n, row.classes) == (30, ["digit 0", "digit 1"])
        assert (row.C, row.accuracy, row.log_loss) == (expected.C, expected.accuracy, expected.log_loss)
    left_out = [note for note in with_it.notes if note not in without.notes]
    assert len(left_out) == 1
    assert left_out[0].startswith(
        "the class 'digit 2' has one image only, which cannot be both learned from and tested"
    )
