"""The points of the curves: what each training starts from, what is scored, and whose time counts."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest

from cnncodes import ImageSet
from cnncodes.errors import ProbeError
from cnncodes.extraction.settings import Settings
from cnncodes.finetuning import curve_points
from cnncodes.finetuning.curve_points import measure_curves
from cnncodes.finetuning.finetune import finetune
from cnncodes.finetuning.out_of_fold import Task
from cnncodes.finetuning.result import HeldOut
from cnncodes.probes.probe import decide
from cnncodes.probes.scores import score
from cnncodes.probes.search import fit_chosen

QUICK = {"train_from": "layer3", "epochs": 1, "batch_size": 30, "lr": 3e-3}


def test_lines_begin_with_the_probe_and_are_scored_on_the_first_fold(
    task: Task, whole_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on by a second whenever it is read: before and after a step, and around the pass of the probe."""
    ticks = count()
    monkeypatch.setattr(curve_points, "process_time", lambda: float(next(ticks)))
    steps: list[tuple[int, int]] = []
    none = HeldOut(np.array([]), np.array([]))
    settings = Settings(backbone="staged", image_size=32)
    curves = measure_curves(task, whole_task, settings, none, "layer3", lambda *step: steps.append(step[:2]))
    train, test = task.search.folds[0]
    labels = task.classes[task.truth]
    probe = fit_chosen(task.X[train], labels[train], task.search, scale=task.scaling)
    answers = task.classes[decide(probe, task.X[test]).argmax(axis=1)]
    expected = score(labels[test], answers, groups=task.groups[test]).accuracy
    for name in ("tuned", "all"):
        start = curves.lines[name][0]
        assert (start.accuracy, start.low, start.high) == (expected.value, expected.low, expected.high)
    assert (curves.probe.accuracy, curves.probe.seconds) == (expected.value, 1)
    assert (curves.n_train, curves.n_answers, curves.held_out) == (40, 20, False)
    # 5 steps an epoch, and a second for what comes before the first
    assert [point.seconds for point in curves.lines["tuned"]] == [2, 7, 12, 17]
    assert [point.seconds for point in curves.lines["scratch"]] == [1 + 5 * epoch for epoch in range(13)]
    assert [point.epoch for point in curves.lines["all"]] == [0, 1, 2, 3]
    assert steps[-1] == (90, 90)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_finetune_scores_the_held_out_images_of_a_split(stripes: ImageSet, tmp_path: Path) -> None:
    split = ["test" if i % 4 == 3 else "train" for i in range(len(stripes.ids))]
    images = ImageSet(stripes.ids, stripes.sources, labels=stripes.labels, splits=split)
    result = finetune(images, backbone="staged", curves=True, cv=2, **QUICK)
    curves = result.curves
    assert curves is not None
    assert (curves.n_train, curves.n_answers, curves.held_out, curves.clock) == (45, 15, True, "processor")
    assert list(curves.lines) == ["tuned", "all", "scratch"]
    assert curves.probe.seconds > 0
    assert result.to_dict()["curves"] == curves.to_dict()
    assert (result.to_dict()["saving"], not result.to_dict()["saving_is_bound"]) == curves.saving


@pytest.mark.slow
def test_whole_network_is_one_line_where_it_is_what_is_tuned(striped_codes: Path, stripes: ImageSet) -> None:
    result = finetune(striped_codes, images=stripes, curves=True, cv=2, **{**QUICK, "train_from": "all"})
    assert result.curves is not None
    assert list(result.curves.lines) == ["tuned", "scratch"]
    assert "curves" not in finetune(striped_codes, cv=2, **{**QUICK, "train_from": "head"}).to_dict()


def test_images_that_are_missing_are_an_error_before_the_training(
    striped_codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnncodes.finetuning.finetune.answer_folds", lambda *args: pytest.fail("too late"))
    with pytest.raises(ProbeError, match="keeps no maps of pixels; name the images"):
        finetune(striped_codes, curves=True, **{**QUICK, "train_from": "head"})
